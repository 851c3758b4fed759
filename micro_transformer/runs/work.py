"""What the child process of a phase returns."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Work:
    """Work done. seconds: wall time of the training loop or of the measurements alone."""

    seconds: float = 0.0


@dataclass(frozen=True)
class Measured(Work):
    """What was measured of a trained model, as in its record; empty: nothing was."""

    metrics: dict[str, Any] = field(default_factory=dict)
    cost: dict[str, Any] = field(default_factory=dict)
    size: dict[str, float] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    quality: dict[str, Any] = field(default_factory=dict)  # the task's, as in the record
    dtype: str | None = None  # of the weights as measured
    attention: list[str] = field(default_factory=list)  # what the kernels ran, backends included
    history: list[dict[str, Any]] = field(default_factory=list)  # one entry per logged step
