"""Clocks and what is said of several timings: the median and the interquartile range."""

import statistics
import time
from collections.abc import Callable, Sequence

import torch


def clock(device: str) -> float:
    """Seconds on a monotonic clock, once the device has done all that it was given."""
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def seconds(action: Callable[[], object], device: str, *, repeats: int, warmup: int) -> list[float]:
    """How long each of `repeats` calls took, after `warmup` calls that are not counted."""
    times = []
    for turn in range(warmup + repeats):
        started = clock(device)
        action()
        if turn >= warmup:
            times.append(clock(device) - started)
    return times


def spread(values: Sequence[float]) -> float | None:
    """Interquartile range, in the unit of the values; None of a single value."""
    if len(values) < 2:
        return None
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return high - low


def scaled(factor: float, value: float | None) -> float | None:
    """factor * value; None if the value is None."""
    return None if value is None else factor * value
