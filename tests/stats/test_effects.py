"""What is concluded from a sweep, on sweeps whose truth is known."""

import itertools

import numpy as np
import pytest

from benchmarks.statistics_simulation import study
from micro_transformer.records.metrics import LOSS, MS_PER_BATCH, TOKENS_PER_S
from micro_transformer.records.rows import collect
from micro_transformer.stats.effects import analyse
from tests.made_records import make_record, make_sweep

POSENCS = ["rope", "alibi", "none"]


def effects_of(records, measure=LOSS, mix=False):
    (board,) = collect(records, mix)
    return analyse(board, measure)


def by_pair(effects):
    return {frozenset((c.a, c.b)): c for c in effects.contrasts}


def test_a_factor_measured_on_one_training_adds_no_repetitions():
    """Twelve evaluations of nine trainings are nine repetitions: the same df, sigma and p."""
    truth = {("posenc", "alibi"): 0.02}
    crossed = make_sweep({"posenc": POSENCS, "cache": list("abcd")}, effects=truth)
    plain = effects_of([r for r in crossed if r.choices["cache"] == "a"])
    many = effects_of(crossed)
    assert (many.df, many.sigma) == (plain.df, pytest.approx(plain.sigma))
    pair = frozenset(("rope", "alibi"))
    assert by_pair(many)[pair].estimate.se == pytest.approx(by_pair(plain)[pair].estimate.se)
    caches = [c for c in many.contrasts if c.factor == "cache"]
    assert {c.verdict for c in caches} == {"identical"} and len(caches) == 6


def test_identical_levels_do_not_sharpen_the_others():
    """Two caches that change nothing are not two repetitions of the comparison with a third."""
    draw = np.random.default_rng(0)
    records = make_sweep({"posenc": POSENCS, "cache": ["none", "paged", "int8"]})
    for record in records:
        if record.choices["cache"] == "int8":
            record.metrics["val/loss"] += float(draw.normal(0.001, 0.001))
    three = by_pair(effects_of(records))[frozenset(("none", "int8"))]
    two = by_pair(effects_of([r for r in records if r.choices["cache"] != "paged"]))
    assert three.estimate == two[frozenset(("none", "int8"))].estimate


def test_a_large_effect_is_found_and_a_tiny_one_is_called_negligible():
    truth = {("posenc", "alibi"): 0.05, ("posenc", "none"): 0.0001}
    seeds = tuple(range(12))
    found = by_pair(effects_of(make_sweep({"posenc": POSENCS}, seeds, truth, noise=0.004, rng=1)))
    assert found[frozenset(("rope", "alibi"))].verdict == "differs"
    assert found[frozenset(("rope", "none"))].verdict == "equal"


def test_one_seed_tests_nothing_and_says_so():
    effects = effects_of(make_sweep({"posenc": POSENCS}, seeds=(42,)))
    assert {c.verdict for c in effects.contrasts} == {"untested"}
    assert any("No repetition" in note for note in effects.notes)


def test_mixed_code_is_compared_only_when_asked():
    records = make_sweep({"posenc": POSENCS})
    records[0].fingerprints["code"] = "other"
    refused = effects_of(records)
    assert not refused.contrasts and "mixed code" in refused.notes[0]
    assert effects_of(records, mix=True).contrasts


def test_costs_are_ratios_and_training_costs_know_only_training_factors():
    records = make_sweep({"posenc": POSENCS[:2], "cache": ["none", "paged"]})
    for record in records:
        record.cost["decode/tokens_per_s"] *= 1.5 if record.choices["cache"] == "paged" else 1
    speed = next(c for c in effects_of(records, TOKENS_PER_S).contrasts if c.factor == "cache")
    assert np.exp(-speed.estimate.value) == pytest.approx(1.5, rel=0.1)
    assert {c.factor for c in effects_of(records, MS_PER_BATCH).contrasts} == {"posenc"}


def test_a_cross_with_holes_compares_what_met():
    """rope was run with gelu only, alibi with swiglu only: they never met; none met both."""
    pairs = [("rope", "gelu"), ("alibi", "swiglu"), ("none", "gelu"), ("none", "swiglu")]
    records = [
        make_record(seed, 1.0 + 0.01 * i + 0.003 * seed * i, posenc=p, ffn=f)
        for (i, (p, f)), seed in itertools.product(enumerate(pairs), (1, 2, 3))
    ]
    effects = effects_of(records)
    posencs = {frozenset((c.a, c.b)) for c in effects.contrasts if c.factor == "posenc"}
    assert posencs == {frozenset(("rope", "none")), frozenset(("alibi", "none"))}
    assert any("rope and alibi were never measured" in note for note in effects.notes)
    assert any("4 of the 6 cells" in note for note in effects.notes)


@pytest.mark.parametrize("missing", [False, True])
def test_simulated_sweeps_are_judged_rightly(missing):
    """A reduced study: 150 sweeps, bounds of four standard errors (5,000 in the full one)."""
    shares = study(150, missing, seed=11)
    assert 0.92 < shares["95 % intervals that cover the truth"] < 0.98
    assert shares["null sweeps with any claim"] < 0.12
    assert shares["equivalence verdicts that are wrong at the margin"] < 0.05
    assert 0.65 < shares["detectable effects that are found"] < 0.93
