"""Peak memory of one piece of work, without what the process had allocated before."""

import ctypes
import gc
from collections.abc import Callable
from contextlib import suppress

import torch

from micro_transformer import memory


def peak_of(action: Callable[[], object], device: str) -> tuple[float, float, float | None]:
    """(peak RSS, its rise over the size before, peak VRAM or None without CUDA), in GB.

    Freed memory is handed back first: the heap that earlier work left behind would hide the rise.
    The peak counts from here on where the kernel can reset it (Linux), else from the start.
    """
    _hand_back()
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    memory.reset_peak()
    before = memory.rss_bytes()
    action()
    peak = memory.peak_rss_bytes()
    return peak / memory.GB, max(0, peak - before) / memory.GB, memory.peak_vram_gb(device)


def _hand_back() -> None:
    gc.collect()
    with suppress(OSError, AttributeError):  # a function of glibc; others keep their heap
        ctypes.CDLL(None).malloc_trim(0)
