"""Translations against their references: BLEU, chrF++, exact matches and lengths.

A sentence may have any number of references, at least one. Case counts, and texts are compared as
they are read, not as tokens of the net. sacreBLEU itself scores the common beginning of lists of
unequal length without a word, so lists are checked here.
"""

from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

import numpy as np
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from micro_transformer.wording import _

References = Sequence[Sequence[str]]  # one list per sentence
METRICS = {"bleu": BLEU, "chrf": CHRF}
OPTIONS: dict[str, dict[str, Any]] = {
    "bleu": {"tokenize": "13a", "lowercase": False},  # corpus BLEU (Post, 2018)
    "chrf": {"word_order": 2},  # chrF++ (Popović, 2017)
}


def check(hypotheses: Sequence[str], references: References) -> None:
    """Raises ValueError unless there is at least one sentence, and a list of references, not empty,
    for each."""
    if isinstance(hypotheses, str) or any(isinstance(of, str) for of in references):
        raise ValueError(_("a text in place of a list of texts"))
    if len(hypotheses) != len(references):
        raise ValueError(
            _(
                "{texts} translations but references for {sources} sentences; give one list of "
                "references per translation",
                texts=len(hypotheses),
                sources=len(references),
            )
        )
    if not hypotheses:
        raise ValueError(_("no translation to score"))
    lacking = [number for number, of in enumerate(references, 1) if not of]
    if lacking:
        raise ValueError(_("sentence {number} has no reference", number=lacking[0]))


def score(metric: str, hypotheses: Sequence[str], references: References) -> tuple[float, str]:
    """(points of 100, signature) of a corpus; metric: bleu or chrf (which is chrF++)."""
    check(hypotheses, references)
    measured = METRICS[metric](**OPTIONS[metric])
    points = measured.corpus_score(list(hypotheses), _streams(references)).score
    return points, str(measured.get_signature())


def statistics(metric: str, hypotheses: Sequence[str], references: References) -> np.ndarray:
    """(sentences, K) counts, whose sum over sentences `points` turns into the corpus score."""
    check(hypotheses, references)
    measured = METRICS[metric](**OPTIONS[metric])
    counts = measured._extract_corpus_statistics(list(hypotheses), _streams(references))
    return np.array(counts, np.float64)


def points(metric: str, counts: np.ndarray) -> float:
    """The corpus score of summed counts (K,)."""
    measured = METRICS[metric](**OPTIONS[metric])
    return measured._compute_score_from_stats(counts.tolist()).score


def exact(hypotheses: Sequence[str], references: References) -> float:
    """Share of translations that equal one of their references, but for spaces."""
    check(hypotheses, references)
    pairs = zip(hypotheses, references, strict=True)
    return sum(_plain(text) in map(_plain, of) for text, of in pairs) / len(hypotheses)


def length_ratio(hypotheses: Sequence[str], references: References) -> float | None:
    """Words of the translations over those of the nearest references, as in BLEU's penalty; None
    if the references have no word."""
    written, wanted = statistics("bleu", hypotheses, references).sum(0)[:2]
    return float(written / wanted) if wanted else None


def _streams(references: References) -> list[list[str | None]]:
    """First references, second ones, ...: None where a sentence has no more."""
    return [list(stream) for stream in zip_longest(*references)]


def _plain(text: str) -> str:
    return " ".join(text.split())
