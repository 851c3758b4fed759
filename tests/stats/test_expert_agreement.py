"""Agreement of routers against every way to match their experts."""

import itertools

import numpy as np
import pytest

from micro_transformer.stats.expert_agreement import agreement, chance


def brute(a: np.ndarray, b: np.ndarray, num: int) -> float:
    """The best of all renamings of the experts of `a`."""
    return max(float((np.array(p)[a] == b).mean()) for p in itertools.permutations(range(num)))


@pytest.mark.parametrize("num", [1, 2, 3, 4])
def test_the_best_matching_is_found(num: int) -> None:
    draw = np.random.default_rng(num)
    for length in (1, 5, 40):
        a, b = draw.integers(num, size=(2, length))
        b = np.where(draw.random(length) < 0.4, (a + 1) % num, b)
        assert agreement(a, b) == pytest.approx(brute(a, b, num))
        assert agreement(b, a) == agreement(a, b)


def test_other_numbers_are_the_same_experts() -> None:
    a = np.random.default_rng(0).integers(4, size=500)
    renamed = np.array([2, 0, 3, 1])[a]
    assert agreement(a, renamed) == 1.0
    assert chance(a, renamed) < 0.35  # of four even experts: 1/4, and a little by the choice


def test_chance_respects_the_loads_and_is_fixed() -> None:
    """Of experts with 9 of 10 tokens, routers agree on 0.82 whatever they know of each other."""
    a = np.r_[np.zeros(900, int), np.ones(100, int)]
    b = np.random.default_rng(1).permutation(a)
    assert chance(a, b) == pytest.approx(0.9**2 + 0.1**2, abs=0.01)
    assert chance(a, b) == chance(a, b)
    assert agreement(a, b) == pytest.approx(chance(a, b), abs=0.02)


def test_every_order_of_few_tokens_gives_the_chance_level() -> None:
    a, b = np.array([0, 0, 1, 2]), np.array([0, 1, 1, 1])
    orders = [brute(np.array(p), b, 3) for p in itertools.permutations(a)]
    assert chance(a, b, draws=4000) == pytest.approx(np.mean(orders), abs=0.01)


def test_different_tokens_are_our_own_mistake() -> None:
    with pytest.raises(AssertionError):
        agreement([0, 1], [0, 1, 1])
