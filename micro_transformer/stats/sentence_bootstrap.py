"""Whether two systems differ on a test set: the paired bootstrap over its sentences.

The interval is over sentences: how far the difference would move with other sentences of the same
kind, for these two sets of weights. The intervals of `effects` are over seeds: how far it would
move with other trainings, on these sentences. Neither contains the other.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from micro_transformer.stats.translation_metrics import References, points, statistics
from micro_transformer.wording import _

SEED, SAMPLES, CONFIDENCE = 12345, 1000, 0.95  # the seed and number of samples of sacreBLEU


@dataclass(frozen=True)
class OverSentences:
    """System a minus system b, in points of the metric."""

    difference: float  # on the whole test set
    mean: float  # over the samples
    low: float  # of the interval over sentences
    high: float
    p: float  # two-sided
    sentences: int
    samples: int


def over_sentences(
    a: Sequence[str],
    b: Sequence[str],
    references: References,
    metric: str = "bleu",
    *,
    samples: int = SAMPLES,
    seed: int = SEED,
) -> OverSentences:
    """Paired bootstrap over sentences (Koehn, 2004) of two systems' translations.

    Each sample draws as many sentences as there are, with replacement, the same for both systems,
    and scores both as a corpus. The interval is between quantiles of the differences. p: how often
    a difference is as far from their mean as the observed one is from 0, plus one of each (Riezler
    and Maxwell, 2005). sacreBLEU draws the same samples, but takes absolute differences before
    their mean, which makes its p about half as large.
    """
    if len(a) != len(b):
        raise ValueError(
            _("{a} translations against {b}; compare the same sentences", a=len(a), b=len(b))
        )
    both = [statistics(metric, texts, references) for texts in (a, b)]
    num = len(a)
    drawn = np.random.default_rng(seed).choice(num, size=(samples, num), replace=True)
    times = np.stack([np.bincount(rows, minlength=num) for rows in drawn])  # (samples, sentences)
    scores = [[points(metric, counts) for counts in times @ counts_of] for counts_of in both]
    differences = np.subtract(*map(np.array, scores))
    observed = points(metric, both[0].sum(0)) - points(metric, both[1].sum(0))
    mean = float(differences.mean())
    as_far = int((np.abs(differences - mean) >= abs(observed) - 1e-9).sum())
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(differences, (tail, 1 - tail))
    p = (as_far + 1) / (samples + 1)
    return OverSentences(observed, mean, float(low), float(high), p, num, samples)
