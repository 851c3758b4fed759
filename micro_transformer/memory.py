"""Memory use of this process: current and peak resident set size, and peak GPU memory."""

import resource
import sys
from pathlib import Path

from micro_transformer.wording import _

GB = 1e9


def reset_peak() -> bool:
    """The peak is measured from now on; returns False where this is impossible (not Linux)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def peak_rss_bytes() -> int:
    """Peak resident set size in bytes since the last reset, or since the process started."""
    try:
        return _status("VmHWM")
    except OSError:
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def rss_bytes() -> int:
    """Current resident set size in bytes; the peak where the current size is not available."""
    try:
        return _status("VmRSS")
    except OSError:
        return peak_rss_bytes()


def peak_vram_gb(device: str) -> float | None:
    """Peak GPU memory allocated by torch, in GB, since its last reset; None if not on CUDA."""
    if device != "cuda":
        return None
    import torch

    return torch.cuda.max_memory_allocated() / GB


def _status(field: str) -> int:
    """A field of /proc/self/status, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise OSError(_("/proc/self/status has no {field}", field=field))
