"""Balance of shares, by hand."""

import math

import pytest

from micro_transformer.stats.load_balance import dead, gini, variation


@pytest.mark.parametrize("n", [2, 3, 8])
def test_even_and_all_in_one_are_the_ends(n: int) -> None:
    even, single = [1 / n] * n, [1.0] + [0.0] * (n - 1)
    assert variation(even) == pytest.approx(0, abs=1e-12) and gini(even) == pytest.approx(0)
    assert variation(single) == pytest.approx(math.sqrt(n - 1))
    assert gini(single) == pytest.approx(1 - 1 / n)


def test_by_hand() -> None:
    """Mean 1/4, deviations 1/4, 0, 0, -1/4; pairs that differ: 1/4 eight times, 1/2 twice."""
    shares = [0.5, 0.25, 0.25, 0.0]
    assert variation(shares) == pytest.approx(math.sqrt(1 / 32) * 4)
    assert gini(shares) == pytest.approx((8 * 0.25 + 2 * 0.5) / 16 / (2 * 0.25))


def test_one_percent_is_alive() -> None:
    assert dead([0.01, 0.0099, 0.0, 0.9801]) == 2
