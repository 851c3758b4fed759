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
    own, others = ([statistics(metric, texts, references)] for texts in (a, b))
    return compared(own, others, metric, samples=samples, seed=seed)


def compared(
    a: Sequence[np.ndarray],
    b: Sequence[np.ndarray],
    metric: str = "bleu",
    *,
    samples: int = SAMPLES,
    seed: int = SEED,
) -> OverSentences:
    """The same for the mean scores of several trainings of each system, given their `statistics`
    (sentences, K) on the same sentences. ValueError: the numbers of sentences differ."""
    if len({len(counts) for counts in (*a, *b)}) != 1:
        raise ValueError(_("trainings were scored on different sentences; score them on the same"))
    num = len(a[0])
    drawn = np.random.default_rng(seed).choice(num, size=(samples, num), replace=True)
    times = np.stack([np.bincount(rows, minlength=num) for rows in drawn])  # (samples, sentences)
    weights = np.vstack([np.ones(num), times])  # all sentences, then the samples
    scores = [
        np.mean([[points(metric, row) for row in weights @ counts] for counts in system], 0)
        for system in (a, b)
    ]
    each = scores[0] - scores[1]
    observed, differences = each[0], each[1:]
    mean = float(np.mean(differences))
    as_far = int((np.abs(differences - mean) >= abs(observed) - 1e-9).sum())
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(differences, (tail, 1 - tail))
    p = (as_far + 1) / (samples + 1)
    return OverSentences(float(observed), mean, float(low), float(high), p, num, samples)
