"""Types of the knobs that a component takes: each says the range that a value must keep.

A constructor is the only place where a knob is declared. `components.py` reads its annotations
without importing the class, so that a bad value is refused before torch is loaded.

    def __init__(self, dims, *, base: Positive = 10_000.0, original_len: Count | None = None): ...
"""

from dataclasses import dataclass
from typing import Annotated


@dataclass(frozen=True)
class Bounds:
    """An interval; an open end excludes its limit."""

    low: float = float("-inf")
    high: float = float("inf")
    open_low: bool = False
    open_high: bool = False

    def holds(self, value: float) -> bool:
        """Whether value lies inside; NaN never does."""
        above = value > self.low if self.open_low else value >= self.low
        below = value < self.high if self.open_high else value <= self.high
        return above and below

    def __str__(self) -> str:
        left, right = "(" if self.open_low else "[", ")" if self.open_high else "]"
        high = "2^63" if self.high == WHOLE else f"{self.high:g}"
        return f"{left}{self.low:g}, {high}{right}"


WHOLE = 2.0**63  # whole numbers stay below: 64 bits hold them in torch, in tables and in records
Count = Annotated[int, Bounds(1, WHOLE, open_high=True)]  # 1, 2, 3, ...
Several = Annotated[int, Bounds(2, WHOLE, open_high=True)]  # tokens, where one must follow another
Few = Annotated[int, Bounds(1, 5000)]
Size = Annotated[int, Bounds(0, WHOLE, open_high=True)]  # 0, 1, 2, ...
Positive = Annotated[float, Bounds(0, open_low=True)]
NonNegative = Annotated[float, Bounds(0)]
Probability = Annotated[float, Bounds(0, 1)]
Share = Annotated[float, Bounds(0, 1, open_low=True)]  # (0, 1]: a top-p
Rate = Annotated[float, Bounds(0, 1, open_high=True)]  # [0, 1): a dropout, a beta
Factor = Annotated[float, Bounds(1)]  # how many times longer
Seconds = Annotated[float, Bounds(0, 2_000_000, open_low=True)]  # that a system call can wait
Base = Annotated[float, Bounds(1, 1e30)]  # of frequencies that do not rise, nor pass float32
