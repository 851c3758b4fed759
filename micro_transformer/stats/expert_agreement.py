"""Whether two routers send the same tokens to the same experts, however these are numbered."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import linear_sum_assignment

SEED, DRAWS = 12345, 200


@dataclass(frozen=True)
class Agreement:
    """Share of tokens that two routers send to matched experts, and its chance level."""

    share: float
    chance: float

    @classmethod
    def of(cls, first: ArrayLike, second: ArrayLike) -> "Agreement":
        """Of two choices of experts for the same tokens."""
        return cls(agreement(first, second), chance(first, second))


def agreement(first: ArrayLike, second: ArrayLike) -> float:
    """Share of tokens with the same expert in both (N,), experts matched one to one so that it is
    highest (Kuhn, 1955)."""
    a, b = _checked(first, second)
    return _matched(a, b, 1 + int(max(a.max(), b.max())))


def chance(first: ArrayLike, second: ArrayLike, draws: int = DRAWS) -> float:
    """Mean agreement with the tokens of `first` in random order: of routers that are as unbalanced
    as these and know nothing of each other. The same for the same input."""
    a, b = _checked(first, second)
    draw, num = np.random.default_rng(SEED), 1 + int(max(a.max(), b.max()))
    return float(np.mean([_matched(draw.permutation(a), b, num) for _ in range(draws)]))


def _matched(a: np.ndarray, b: np.ndarray, num: int) -> float:
    both = np.bincount(a * num + b, minlength=num * num).reshape(num, num)
    rows, columns = linear_sum_assignment(both, maximize=True)
    return float(both[rows, columns].sum() / len(a))


def _checked(first: ArrayLike, second: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.asarray(first, np.int64), np.asarray(second, np.int64)
    assert a.shape == b.shape and a.ndim == 1 and a.size, "one expert per token, same tokens"
    return a, b
