"""Annotation types for the knobs of components: each gives a type and the allowed range.

A knob is declared only in its constructor. `components.py` reads the annotations without importing
the class, so that a bad value is rejected before torch is loaded.

    def __init__(self, dims, *, base: Positive = 10_000.0, original_len: Count | None = None): ...
"""

from dataclasses import dataclass
from typing import Annotated


@dataclass(frozen=True)
class Bounds:
    """An interval of allowed values; an open end excludes its limit."""

    low: float = float("-inf")
    high: float = float("inf")
    open_low: bool = False
    open_high: bool = False

    def holds(self, value: float) -> bool:
        """Whether the value is in the interval; False for NaN."""
        above = value > self.low if self.open_low else value >= self.low
        below = value < self.high if self.open_high else value <= self.high
        return above and below

    def __str__(self) -> str:
        left, right = "(" if self.open_low else "[", ")" if self.open_high else "]"
        high = "2^63" if self.high == WHOLE else f"{self.high:g}"
        return f"{left}{self.low:g}, {high}{right}"


WHOLE = 2.0**63  # exclusive limit of integers: they must fit 64 bits in torch, tables and records
Count = Annotated[int, Bounds(1, WHOLE, open_high=True)]  # 1, 2, 3, ...
Several = Annotated[int, Bounds(2, WHOLE, open_high=True)]  # tokens: one and its successor
Few = Annotated[int, Bounds(1, 5000)]
Size = Annotated[int, Bounds(0, WHOLE, open_high=True)]  # 0, 1, 2, ...
Positive = Annotated[float, Bounds(0, open_low=True)]
NonNegative = Annotated[float, Bounds(0)]
Probability = Annotated[float, Bounds(0, 1)]
Share = Annotated[float, Bounds(0, 1, open_low=True)]  # (0, 1]: a top-p
Rate = Annotated[float, Bounds(0, 1, open_high=True)]  # [0, 1): a dropout, a beta
Factor = Annotated[float, Bounds(1)]  # ratio of the new context length to the old
Seconds = Annotated[float, Bounds(0, 2_000_000, open_low=True)]  # longest timeout of a system call
Guidance = Annotated[float, Bounds(0, 100)]  # scale of a difference of log-probabilities
Base = Annotated[float, Bounds(1, 1e30)]  # of RoPE: frequencies must not increase; float32 range
