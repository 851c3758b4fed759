"""Clock that waits for the device, and the spread of repeated timings."""

import statistics
import time
from collections.abc import Callable, Sequence

import torch


def clock(device: str) -> float:
    """Seconds on a monotonic clock, after all queued work of the device."""
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def seconds(action: Callable[[], object], device: str, *, repeats: int, warmup: int) -> list[float]:
    """Seconds of each of `repeats` calls, after `warmup` calls that are not counted."""
    times = []
    for turn in range(warmup + repeats):
        started = clock(device)
        action()
        if turn >= warmup:
            times.append(clock(device) - started)
    return times


def spread(values: Sequence[float]) -> float | None:
    """Interquartile range, in the unit of the values; None for a single value."""
    if len(values) < 2:
        return None
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return high - low


def scaled(factor: float, value: float | None) -> float | None:
    """factor * value; None if the value is None."""
    return None if value is None else factor * value
