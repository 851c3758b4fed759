"""How evenly a load is spread, from the shares of the load, which sum to 1."""

import numpy as np
from numpy.typing import ArrayLike

DEAD = 0.01  # share below which an expert is dead


def variation(shares: ArrayLike) -> float:
    """Coefficient of variation: 0 if all shares are equal, sqrt(n - 1) if one of n has all."""
    values = np.asarray(shares, float)
    return float(values.std() / values.mean())


def gini(shares: ArrayLike) -> float:
    """Gini coefficient, Σ|x_i - x_j| / (2 n² mean): 0 if all are equal, 1 - 1/n if one has all."""
    values = np.asarray(shares, float)
    return float(np.abs(values[:, None] - values).mean() / (2 * values.mean()))


def dead(shares: ArrayLike) -> int:
    """Number of shares below DEAD."""
    return int((np.asarray(shares, float) < DEAD).sum())
