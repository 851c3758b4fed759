"""Scores of each configuration on the items of a split against those of the best one, with two
intervals.

Over seeds: how far the difference would move with other trainings, on these sentences. Over
sentences: how far with other sentences, for these trainings. A difference needs both.
"""

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from scipy import stats

from micro_transformer.disk import read_json
from micro_transformer.records.cells import Cell, Table
from micro_transformer.records.rows import Board, Row
from micro_transformer.records.run_record import (
    CLASSIFICATION_SCORES,
    TRANSLATION_SCORES,
    RunRecord,
)
from micro_transformer.report.number_format import p_text
from micro_transformer.stats.effects import ALPHA
from micro_transformer.stats.holm import holm
from micro_transformer.stats.paired_bootstrap import OverItems, Score, compared
from micro_transformer.stats.translation_metrics import points
from micro_transformer.wording import N_, _, translate

Counts = dict[int, np.ndarray]  # seed -> counts (sentences, K)


@dataclass(frozen=True)
class Scored:
    """A score of a split, from counts per sentence in a file of the record's folder."""

    name: str  # in English
    file: str  # its name, with {split}
    counts: Callable[[Any], list[list[float]]]  # of the file's content
    score: Score


SCORED = (
    Scored(
        N_("BLEU"),
        TRANSLATION_SCORES,
        lambda page: page["bleu"]["statistics"],
        partial(points, "bleu"),
    ),
    Scored(
        N_("Accuracy (%)"),
        CLASSIFICATION_SCORES,
        lambda page: [[is_right, 1] for is_right in page["right"]],
        lambda counts: float(100 * counts[0] / counts[1]),
    ),
)


@dataclass(frozen=True)
class Against:
    """A row minus the best one, on the seeds that both have."""

    row: Row
    mean: float
    half: float | None  # of the 95 % interval over seeds; None for fewer than two
    p: float | None  # of both tests: the larger of the two
    over_items: OverItems
    seeds: int


def intervals(board: Board) -> Table | None:
    """Each row against the best, on the test sentences where there are some, else on the validation
    ones; None without scores per sentence of two rows."""
    for scored in SCORED:
        for split in ("test", "val"):
            counts = {
                i: c for i, row in enumerate(board.rows) if (c := _counts(row, scored, split))
            }
            if len(counts) > 1:
                return _intervals(board, scored, split, counts)
    return None


def _intervals(board: Board, scored: Scored, split: str, counts: dict[int, Counts]) -> Table | None:
    if len({len(c) for each in counts.values() for c in each.values()}) > 1:
        return None
    scores = {i: [scored.score(c.sum(0)) for c in each.values()] for i, each in counts.items()}
    best = max(scores, key=lambda i: statistics.fmean(scores[i]))
    found = [
        _against(board.rows[i], each, counts[best], scored.score)
        for i, each in counts.items()
        if i != best and each.keys() & counts[best].keys()
    ]
    found.sort(key=lambda against: -against.mean)
    return _table(board.rows[best], scored, split, found) if found else None


def _against(row: Row, own: Counts, best: Counts, score: Score) -> Against:
    seeds = sorted(own.keys() & best.keys())
    steps = [score(own[seed].sum(0)) - score(best[seed].sum(0)) for seed in seeds]
    items = compared([own[seed] for seed in seeds], [best[seed] for seed in seeds], score)
    mean = statistics.fmean(steps)
    if len(seeds) < 2 or len(set(steps)) == 1:
        return Against(row, mean, None, None, items, len(seeds))
    se, t = statistics.stdev(steps) / math.sqrt(len(seeds)), stats.t(len(seeds) - 1)
    p = max(2 * float(t.sf(abs(mean) / se)), items.p)
    return Against(row, mean, float(t.ppf(0.975)) * se, p, items, len(seeds))


def _table(best: Row, scored: Scored, split: str, found: list[Against]) -> Table:
    table = Table(
        _("{score} against {best}, {split} sentences", score=translate(scored.name),
          best=best.name, split=split),
        [_("Config"), _("Difference"), _("95 % interval over seeds"),
         _("95 % interval over sentences"), _("Holm p of both"), _("Verdict"),
         _("Paired seeds"), _("Sentences")],
        note=_("Over seeds: with other trainings, on these sentences. Over sentences: with other "
               "sentences, for these trainings (paired bootstrap, Koehn, 2004). A difference needs "
               "both, so p is the larger of the two."),
    )  # fmt: skip
    for each, p in zip(found, holm([each.p for each in found]), strict=True):
        over, half = each.over_items, each.half
        verdict = _("untested") if p is None else _("differs") if p < ALPHA else _("undecided")
        table.rows.append([
            Cell(each.row.name, each.row.name), Cell(f"{each.mean:+.2f}", each.mean),
            Cell("—" if half is None else f"{each.mean - half:+.2f} to {each.mean + half:+.2f}"),
            Cell(f"{over.low:+.2f} to {over.high:+.2f}"), Cell(p_text(p), p),
            Cell(verdict, verdict), Cell(str(each.seeds), each.seeds),
            Cell(str(over.items), over.items),
        ])  # fmt: skip
    return table


def _counts(row: Row, scored: Scored, split: str) -> Counts:
    """Of the records that have them."""
    found = ((record.seed, _read(record, scored, split)) for record in row.ok)
    return {seed: counts for seed, counts in found if counts is not None}


def _read(record: RunRecord, scored: Scored, split: str) -> np.ndarray | None:
    """None without a file of scores, or with one that is damaged."""
    if record.path is None:
        return None
    try:
        page = read_json(record.path.parent / scored.file.format(split=split))
        counts = np.array(scored.counts(page), np.float64)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return counts if counts.ndim == 2 and len(counts) else None
