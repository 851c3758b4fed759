"""Wilson's interval against its formula."""

import math

import pytest

from micro_transformer.stats.proportion import wilson


@pytest.mark.parametrize("hits, n", [(0, 50), (50, 50), (3, 64), (39, 64), (1, 1)])
def test_the_interval_is_wilsons(hits, n):
    z, p = 1.959963984540054, hits / n
    middle = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    assert wilson(hits, n) == pytest.approx((middle - half, middle + half), abs=1e-12)
