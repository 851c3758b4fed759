"""Cell means with blocks against statsmodels' least squares."""

import itertools
import warnings

import numpy as np
import pandas
import pytest
import statsmodels.formula.api as smf
from scipy import stats as scipy_stats
from statsmodels.stats.anova import anova_lm
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower

from micro_transformer.stats.holm import holm
from micro_transformer.stats.linear_model import Fit, detectable


def sample(rng: int, lost: int) -> pandas.DataFrame:
    """A 3 x 2 cross over 4 seeds with `lost` runs missing."""
    draw = np.random.default_rng(rng)
    rows = [(p, f, s) for p, f, s in itertools.product("abc", "xy", range(4))]
    frame = pandas.DataFrame(rows, columns=["p", "f", "seed"])
    frame["y"] = draw.normal(0, 1, len(frame)) + frame["seed"] + frame["p"].map(ord) * 0.5
    return frame.drop(draw.choice(len(frame), lost, replace=False)).reset_index(drop=True)


@pytest.mark.parametrize(("rng", "lost"), [(0, 0), (1, 3), (2, 6), (3, 8)])
def test_contrasts_intervals_and_p_equal_statsmodels(rng, lost):
    frame = sample(rng, lost)
    frame["cell"] = frame["p"] + frame["f"]
    fit = Fit([(p, f) for p, f in zip(frame.p, frame.f, strict=True)], frame.seed, frame.y)
    reference = smf.ols("y ~ 0 + C(cell) + C(seed)", frame).fit()
    assert fit.df == reference.df_resid
    assert fit.sigma == pytest.approx(np.sqrt(reference.scale))
    cells = sorted(set(frame.cell))
    for one, two in itertools.combinations(cells, 2):
        row = np.zeros(len(reference.params))
        row[cells.index(one)], row[cells.index(two)] = 1, -1
        theirs = reference.t_test(row)
        ours = fit.contrast({tuple(one): 1.0, tuple(two): -1.0})
        assert ours.value == pytest.approx(theirs.effect.item())
        assert ours.se == pytest.approx(theirs.sd.item())
        assert ours.p == pytest.approx(theirs.pvalue.item())
        assert ours.interval() == pytest.approx(tuple(theirs.conf_int()[0]))


def test_the_interaction_is_that_of_the_analysis_of_variance():
    frame = sample(4, 0)
    table = anova_lm(smf.ols("y ~ C(p) * C(f) + C(seed)", frame).fit())
    fit = Fit([(p, f) for p, f in zip(frame.p, frame.f, strict=True)], frame.seed, frame.y)
    rows = [
        {(a, "x"): 1.0, (a, "y"): -1.0, (b, "x"): -1.0, (b, "y"): 1.0}
        for a, b in itertools.combinations("abc", 2)
    ]
    f, top, bottom, p = fit.f_test(rows)
    theirs = table.loc["C(p):C(f)"]
    assert (f, p) == (pytest.approx(theirs["F"]), pytest.approx(theirs["PR(>F)"]))
    assert (top, bottom) == (2, 15)


def test_what_no_block_connects_is_not_compared():
    fit = Fit([("a",), ("b",), ("c",), ("c",)], [1, 2, 1, 3], [1.0, 2.0, 3.0, 4.0])
    assert fit.contrast({("a",): 1.0, ("b",): -1.0}) is None
    assert fit.contrast({("a",): 1.0, ("c",): -1.0}).value == pytest.approx(-2.0)


def test_without_repetition_there_is_a_value_and_no_error():
    estimate = Fit([("a",), ("b",)], [1, 1], [1.0, 2.0]).contrast({("a",): 1.0, ("b",): -1.0})
    assert estimate.value == pytest.approx(-1.0)
    assert (estimate.se, estimate.p, estimate.interval()) == (None, None, None)


def test_holm_equals_statsmodels():
    draw = np.random.default_rng(0)
    for n in (1, 2, 5, 30):
        p = draw.random(n) ** 3
        assert holm(list(p)) == pytest.approx(list(multipletests(p, method="holm")[1]))
    assert holm([0.01, None, 0.04]) == [0.02, None, 0.04]


def test_the_equivalence_test_is_the_larger_of_two_one_sided_ones():
    draw = np.random.default_rng(1)
    a, b = draw.normal(0, 1, 8), draw.normal(0.1, 1, 8)
    fit = Fit([("a",)] * 8 + [("b",)] * 8, [*range(8), *range(8)], [*a, *b])
    ours = fit.contrast({("a",): 1.0, ("b",): -1.0}).p_beyond(1.0)
    low = scipy_stats.ttest_1samp(a - b, -1.0, alternative="greater").pvalue
    high = scipy_stats.ttest_1samp(a - b, 1.0, alternative="less").pvalue
    assert ours == pytest.approx(max(low, high))


def test_what_can_be_detected_is_a_little_more_than_with_a_known_error():
    """statsmodels takes the estimated error for the true one; with many runs both agree."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        known = TTestPower().solve_power(nobs=401, alpha=0.05, power=0.8) * np.sqrt(401)
    assert detectable(1.0, 400, 0.05) == pytest.approx(known, rel=0.01)
    assert detectable(1.0, 4, 0.05) > detectable(1.0, 8, 0.05) > known
