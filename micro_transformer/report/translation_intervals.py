"""Translations of each configuration against those of the best one, with two intervals.

Over seeds: how far the difference would move with other trainings, on these sentences. Over
sentences: how far with other sentences, for these trainings. A difference needs both.
"""

import math
import statistics
from dataclasses import dataclass

import numpy as np
from scipy import stats

from micro_transformer.disk import read_json
from micro_transformer.records.cells import Cell, Table
from micro_transformer.records.rows import Board, Row
from micro_transformer.records.run_record import TRANSLATION_SCORES, RunRecord
from micro_transformer.report.number_format import p_text
from micro_transformer.stats.effects import ALPHA
from micro_transformer.stats.holm import holm
from micro_transformer.stats.sentence_bootstrap import OverSentences, compared
from micro_transformer.stats.translation_metrics import points
from micro_transformer.wording import _


@dataclass(frozen=True)
class Against:
    """A row minus the best one, in points of BLEU on the seeds that both have."""

    row: Row
    mean: float
    half: float | None  # of the 95 % interval over seeds; None for fewer than two
    p: float | None  # of both tests: the larger of the two
    over_sentences: OverSentences
    seeds: int


def intervals(board: Board) -> Table | None:
    """Each row against the best by BLEU, on the test sentences where there are some, else on the
    validation ones; None without translations of two rows."""
    for split in ("test", "val"):
        counts = {i: c for i, row in enumerate(board.rows) if (c := _counts(row, split))}
        if len(counts) > 1:
            return _intervals(board, split, counts)
    return None


def _intervals(board: Board, split: str, counts: dict[int, dict[int, np.ndarray]]) -> Table | None:
    if len({len(c) for each in counts.values() for c in each.values()}) > 1:
        return None
    means = {i: statistics.fmean(_bleu(c) for c in each.values()) for i, each in counts.items()}
    best = max(means, key=lambda i: means[i])
    found = [
        _against(board.rows[i], each, counts[best])
        for i, each in counts.items()
        if i != best and each.keys() & counts[best].keys()
    ]
    found.sort(key=lambda against: -against.mean)
    return _table(board.rows[best], split, found) if found else None


def _against(row: Row, own: dict[int, np.ndarray], best: dict[int, np.ndarray]) -> Against:
    seeds = sorted(own.keys() & best.keys())
    steps = [_bleu(own[seed]) - _bleu(best[seed]) for seed in seeds]
    sentences = compared([own[seed] for seed in seeds], [best[seed] for seed in seeds])
    mean = statistics.fmean(steps)
    if len(seeds) < 2 or len(set(steps)) == 1:
        return Against(row, mean, None, None, sentences, len(seeds))
    se, t = statistics.stdev(steps) / math.sqrt(len(seeds)), stats.t(len(seeds) - 1)
    p = max(2 * float(t.sf(abs(mean) / se)), sentences.p)
    return Against(row, mean, float(t.ppf(0.975)) * se, p, sentences, len(seeds))


def _table(best: Row, split: str, found: list[Against]) -> Table:
    table = Table(
        _("BLEU against {best}, {split} sentences", best=best.name, split=split),
        [_("Config"), _("Difference"), _("95 % interval over seeds"),
         _("95 % interval over sentences"), _("Holm p of both"), _("Verdict"),
         _("Paired seeds"), _("Sentences")],
        note=_("Over seeds: with other trainings, on these sentences. Over sentences: with other "
               "sentences, for these trainings (paired bootstrap, Koehn, 2004). A difference needs "
               "both, so p is the larger of the two."),
    )  # fmt: skip
    for each, p in zip(found, holm([each.p for each in found]), strict=True):
        over, half = each.over_sentences, each.half
        verdict = _("untested") if p is None else _("differs") if p < ALPHA else _("undecided")
        table.rows.append([
            Cell(each.row.name, each.row.name), Cell(f"{each.mean:+.2f}", each.mean),
            Cell("—" if half is None else f"{each.mean - half:+.2f} to {each.mean + half:+.2f}"),
            Cell(f"{over.low:+.2f} to {over.high:+.2f}"), Cell(p_text(p), p),
            Cell(verdict, verdict), Cell(str(each.seeds), each.seeds),
            Cell(str(over.sentences), over.sentences),
        ])  # fmt: skip
    return table


def _counts(row: Row, split: str) -> dict[int, np.ndarray]:
    """Seed → counts (sentences, K) of BLEU, of the records that have them."""
    found = ((record.seed, _statistics(record, split)) for record in row.ok)
    return {seed: counts for seed, counts in found if counts is not None}


def _statistics(record: RunRecord, split: str) -> np.ndarray | None:
    """None without a file of scores, or with one that is damaged."""
    if record.path is None:
        return None
    try:
        page = read_json(record.path.parent / TRANSLATION_SCORES.format(split=split))
        counts = np.array(page["bleu"]["statistics"], np.float64)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return counts if counts.ndim == 2 and len(counts) else None


def _bleu(counts: np.ndarray) -> float:
    return points("bleu", counts.sum(0))
