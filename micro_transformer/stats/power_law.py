"""A power law fitted in log-log: how a metric falls with size, and the error of its exponent."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class PowerLaw:
    """y = scale * x^exponent. The error is that of the means of the sizes around the line, so it
    includes both lack of fit and the scatter over seeds."""

    exponent: float
    low: float
    high: float
    scale: float
    sizes: int

    def at(self, x: np.ndarray) -> np.ndarray:
        """The line's value."""
        return self.scale * x**self.exponent


def power_law(xs: Sequence[float], ys: Sequence[float]) -> PowerLaw | None:
    """The fit to one mean a size; None for fewer than three sizes."""
    groups: dict[float, list[float]] = {}
    for x, y in zip(xs, ys, strict=True):
        if x > 0 and y > 0:
            groups.setdefault(float(x), []).append(float(np.log(y)))
    if len(groups) < 3:
        return None
    means = [float(np.mean(logs)) for logs in groups.values()]
    line: Any = stats.linregress(np.log(list(groups)), means)
    half = float(stats.t.ppf(0.975, len(groups) - 2)) * line.stderr
    slope = float(line.slope)
    return PowerLaw(
        slope, slope - float(half), slope + float(half), float(np.exp(line.intercept)), len(groups)
    )
