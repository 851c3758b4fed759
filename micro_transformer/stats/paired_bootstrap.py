"""Whether two systems differ on a test set: the paired bootstrap over its items, such as sentences.

The interval is over items: how far the difference would move with other items of the same kind, for
these two sets of weights. The intervals of `effects` are over seeds: how far it would move with
other trainings, on these items. Neither contains the other.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from micro_transformer.wording import _

Score = Callable[[np.ndarray], float]  # summed counts (K,) -> the score of all items

SEED, SAMPLES, CONFIDENCE = 12345, 1000, 0.95  # the seed and number of samples of sacreBLEU


@dataclass(frozen=True)
class OverItems:
    """System a minus system b, in units of the score."""

    difference: float  # on the whole test set
    mean: float  # over the samples
    low: float  # of the interval over items
    high: float
    p: float  # two-sided
    items: int
    samples: int


def compared(
    a: Sequence[np.ndarray],
    b: Sequence[np.ndarray],
    score: Score,
    *,
    samples: int = SAMPLES,
    seed: int = SEED,
) -> OverItems:
    """Paired bootstrap over items (Koehn, 2004) of the mean scores of several trainings of each
    system, given counts (items, K) of the same items, whose sum `score` turns into a score.

    Each sample draws as many items as there are, with replacement, the same for both systems, and
    scores both as a corpus. The interval is between quantiles of the differences. p: how often a
    difference is as far from their mean as the observed one is from 0, plus one of each (Riezler
    and Maxwell, 2005). sacreBLEU draws the same samples, but takes absolute differences before
    their mean, which makes its p about half as large. ValueError: the numbers of items differ.
    """
    if len({len(counts) for counts in (*a, *b)}) != 1:
        raise ValueError(_("systems were scored on different items; score them on the same"))
    num = len(a[0])
    drawn = np.random.default_rng(seed).choice(num, size=(samples, num), replace=True)
    times = np.stack([np.bincount(items, minlength=num) for items in drawn])  # (samples, items)
    weights = np.vstack([np.ones(num), times])  # all items, then the samples
    scores = [
        np.mean([[score(row) for row in weights @ counts] for counts in system], 0)
        for system in (a, b)
    ]
    each = scores[0] - scores[1]
    observed, differences = each[0], each[1:]
    mean = float(np.mean(differences))
    as_far = int((np.abs(differences - mean) >= abs(observed) - 1e-9).sum())
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(differences, (tail, 1 - tail))
    p = (as_far + 1) / (samples + 1)
    return OverItems(float(observed), mean, float(low), float(high), p, num, samples)
