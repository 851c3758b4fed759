"""The paired bootstrap over items: the samples of sacreBLEU, an interval that covers."""

import random
from functools import partial

import numpy as np
import pytest
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.significance import PairedTest
from scipy import stats

from micro_transformer.stats import translation_metrics
from micro_transformer.stats.paired_bootstrap import compared

WORDS = [f"w{i}" for i in range(50)]


def over_sentences(a, b, references, metric="bleu", **options):
    """The translations of two systems, compared."""
    counts = [[translation_metrics.statistics(metric, texts, references)] for texts in (a, b)]
    return compared(*counts, partial(translation_metrics.points, metric), **options)


def systems(seed, num, wrong_a, wrong_b):
    """Two systems that replace each word of the reference with these probabilities."""
    draw = random.Random(seed)
    references = [draw.choices(WORDS, k=draw.randint(4, 12)) for _ in range(num)]

    def written(wrong):
        return [
            " ".join(draw.choice(WORDS) if draw.random() < wrong else w for w in words)
            for words in references
        ]

    return written(wrong_a), written(wrong_b), [[" ".join(words)] for words in references]


def test_the_samples_are_those_of_sacrebleu(monkeypatch):
    monkeypatch.delenv("SACREBLEU_SEED", raising=False)
    a, b, references = systems(0, 60, 0.2, 0.3)
    found = over_sentences(a, b, references, samples=200)
    streams = [[of[0] for of in references]]
    test = PairedTest([("b", b), ("a", a)], {"bleu": BLEU()}, streams, "bs", n_samples=200)
    base, other = next(of for name, of in test()[1].items() if name.lower() == "bleu")
    assert found.difference == pytest.approx(other.score - base.score)
    assert found.mean == pytest.approx(other.mean - base.mean, abs=1e-3)  # theirs is in float32


def test_a_system_does_not_differ_from_itself():
    a, _, references = systems(0, 40, 0.2, 0.3)
    found = over_sentences(a, a, references, samples=100)
    assert (found.difference, found.low, found.high, found.p) == (0, 0, 0, 1)


def test_a_clear_difference_is_seen_and_the_order_is_its_sign():
    a, b, references = systems(0, 150, 0.1, 0.5)
    found, other = (over_sentences(*both, references, samples=200) for both in ((a, b), (b, a)))
    assert found.low > 0 and found.p == pytest.approx(1 / 201)
    assert other.difference == -found.difference and other.low == pytest.approx(-found.high)


def test_the_same_seed_gives_the_same_interval():
    a, b, references = systems(1, 40, 0.2, 0.3)
    runs = [over_sentences(a, b, references, "chrf", samples=50, seed=s) for s in (3, 3, 4)]
    assert runs[0] == runs[1] != runs[2]
    assert (runs[0].items, runs[0].samples) == (40, 50)


def test_other_items_are_refused():
    a, b = np.ones((10, 2)), np.ones((9, 2))
    with pytest.raises(ValueError, match="different items"):
        compared([a], [b], lambda counts: counts[0])


def test_shares_have_the_interval_of_scipy():
    """Percentile intervals of a paired difference of shares, here of 2,000 samples each."""
    draw = np.random.default_rng(5)
    a, b = draw.random(200) < 0.8, draw.random(200) < 0.7
    counts = [[np.c_[right, np.ones(200)]] for right in (a, b)]
    found = compared(*counts, lambda total: float(total[0] / total[1]), samples=2000)
    theirs = stats.bootstrap(
        (a.astype(float), b.astype(float)), lambda x, y, axis: x.mean(axis) - y.mean(axis),
        paired=True, vectorized=True, n_resamples=2000, method="percentile", rng=6,
    ).confidence_interval  # fmt: skip
    assert found.difference == pytest.approx(a.mean() - b.mean())
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), abs=0.01)


def test_intervals_cover_and_equal_systems_seldom_differ():
    """120 test sets of two equally good systems: the true difference is 0. At 95 %, binomial
    limits of 1 in 1000 on 120: 105 to 120 covered, at most 15 with p < 0.05."""
    found = [
        over_sentences(*systems(seed, 60, 0.3, 0.3), samples=150, seed=seed) for seed in range(120)
    ]
    assert sum(f.low <= 0 <= f.high for f in found) >= 105
    significant = sum(f.p < 0.05 for f in found)
    assert significant <= 15
    assert np.mean([f.p for f in found]) == pytest.approx(0.5, abs=0.12)
