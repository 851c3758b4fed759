"""Memory of this process: resident now, the peak since the last reset, and the GPU's peak."""

import resource
import sys
from pathlib import Path

GB = 1e9


def reset_peak() -> bool:
    """The kernel counts the peak from now on; False where it cannot (not Linux)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def peak_rss_bytes() -> int:
    """Highest resident size since the last reset, or since the start."""
    try:
        return _status("VmHWM")
    except OSError:
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def rss_bytes() -> int:
    """Resident size now; the peak where the system tells no more."""
    try:
        return _status("VmRSS")
    except OSError:
        return peak_rss_bytes()


def peak_vram_gb(device: str) -> float | None:
    """Peak of memory allocated on the GPU since its last reset; None without CUDA, never 0."""
    if device != "cuda":
        return None
    import torch

    return torch.cuda.max_memory_allocated() / GB


def _status(field: str) -> int:
    """A field of /proc/self/status, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {field}")
