"""Capabilities of this machine, without importing torch: cores, CUDA, bf16.

Limits set by the user or a container count as properties of the machine.
"""

import importlib.metadata
import importlib.util
import os
import platform
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from micro_transformer import instruction_sets

CGROUPS, OWN_CGROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
DRIVER = ("/proc/driver/nvidia/version", "/dev/nvidiactl")
WSL_DRIVER = "/dev/dxg"  # under WSL, where Windows provides the GPU
BF16_ON_GPU = 8.0  # minimum compute capability for bf16


@cache
def gpu_name() -> str | None:
    """Name of the first GPU that CUDA may use; None if nvidia-smi fails."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    return next(iter(_nvidia_smi("name", visible)), None)


def has_bf16(device: str) -> bool:
    """Whether the device ("cuda" or "cpu") has native bf16 matrix multiplication."""
    if device == "cuda":
        return _compute_capability() >= BF16_ON_GPU
    return instruction_sets.have_bf16()


def cores() -> int:
    """Number of cores for this process: the minimum of CPU affinity, cgroup quotas and Slurm's
    allocation."""
    mine = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    granted = _number("SLURM_CPUS_PER_TASK") or mine
    return max(1, min([mine, granted, *map(int, _quotas())]))


def threads(processes: int = 1) -> int:
    """Threads per process if `processes` share the cores; at most OMP_NUM_THREADS, if set."""
    share, wished = max(1, cores() // processes), _number("OMP_NUM_THREADS")
    by_torchrun = (
        wished == 1 and (_number("LOCAL_WORLD_SIZE") or 1) > 1
    )  # its default is nobody's wish
    return share if wished is None or by_torchrun else min(share, wished)


@cache
def cuda_usable() -> bool:
    """Whether torch was built for CUDA and a GPU is visible. Both driver paths must exist: a
    container sees the host's driver in /proc even without access to a GPU."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return False
    version = (Path(spec.origin).parent / "version.py").read_text()
    built = any(line.startswith("cuda") and "None" not in line for line in version.splitlines())
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES", "0") in ("", "-1")
    is_driven = all(Path(path).exists() for path in DRIVER) or Path(WSL_DRIVER).exists()
    return built and not hidden and is_driven


@cache
def _compute_capability() -> float:
    """The lowest compute capability of the GPUs; BF16_ON_GPU if nvidia-smi fails."""
    with suppress(ValueError):
        return min(map(float, _nvidia_smi("compute_cap")))
    return BF16_ON_GPU


def _nvidia_smi(query: str, gpu: str | None = None) -> list[str]:
    """The answer of nvidia-smi, one line per GPU; empty if it fails."""
    command = ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader"]
    command += [] if gpu is None else [f"--id={gpu}"]
    with suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
        return [line.strip() for line in done.stdout.splitlines()]
    return []


def _quotas() -> Iterator[float]:
    """CPU quotas, in cores, of this process's control groups and their parents (cgroup v1, v2)."""
    with suppress(OSError):
        for line in OWN_CGROUPS.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers or "cpu" in controllers.split(","):
                yield from _quotas_of(controllers, path.strip("/"))


def _quotas_of(controllers: str, path: str) -> Iterator[float]:
    """CPU quotas, in cores, of a group and its parents. In a container the path may be the host's
    and not exist; the root is then the container's own group."""
    roots = [CGROUPS / controllers, CGROUPS / "cpu"] if controllers else [CGROUPS]
    for root in roots:
        own = root / path
        for group in (own, *own.parents[: len(Path(path).parts)]):
            with suppress(OSError, ValueError):
                quota, period = _granted(group, bool(controllers))
                if quota > 0:
                    yield quota / period


def _granted(group: Path, is_v1: bool) -> tuple[int, int]:
    """(CPU time per period, period), both in microseconds; ValueError if cgroup v2 has no limit."""
    if is_v1:
        quota, period = ((group / f"cpu.cfs_{n}_us").read_text() for n in ("quota", "period"))
    else:
        quota, period = (group / "cpu.max").read_text().split()
    return int(quota), int(period)


def _number(variable: str) -> int | None:
    """The positive integer in an environment variable, the first of a list; else None."""
    text = os.environ.get(variable, "").split(",")[0].strip()
    return int(text) if text.isdecimal() and int(text) else None


def environment(device: str, threads: int) -> dict[str, Any]:
    """Versions, hardware and load that results depend on: recorded, but not fingerprinted."""
    return {
        "torch": importlib.metadata.version("torch"),
        "python": platform.python_version(),
        "os": platform.platform(terse=True),
        "cpu": instruction_sets.cpu_name(),
        "isa": instruction_sets.newest(),
        "cores": cores(),
        "device": device,
        "threads": threads,
        "gpu": gpu_name() if device == "cuda" else None,
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }


@cache
def git_state() -> dict[str, Any]:
    """The commit, and whether tracked files differ from it; both None without git."""
    root = Path(__file__).resolve().parents[1]

    def git(*words: str) -> str:
        return subprocess.run(
            ("git", "-C", str(root), *words), capture_output=True, text=True, check=True, timeout=5
        ).stdout.strip()

    try:
        return {
            "commit": git("rev-parse", "HEAD"),
            "dirty": bool(git("status", "--porcelain", "-uno")),
        }
    except (OSError, subprocess.SubprocessError):
        return {"commit": None, "dirty": None}
