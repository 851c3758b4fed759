"""Seeds, devices, threads: all that must be the same for the same figures.

torch is imported only where it is used.
"""

import hashlib
import importlib.metadata
import importlib.util
import os
import platform
import random
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

from micro_transformer import schema


def stream(seed: int, *names: object) -> int:
    """A seed of its own for each named stream, in [0, 2^63): streams share no draws."""
    text = "/".join(map(str, (seed, *names)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def seed_everything(seed: int) -> None:
    """torch, random and numpy draw from `seed` from here on."""
    import numpy
    import torch

    random.seed(seed)
    numpy.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def make_deterministic(threads: int) -> None:
    """Same operations in the same order on every call: thread count, kernels, no autotuning."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    import torch

    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False


@cache
def cpu_flags() -> frozenset[str]:
    """Instruction sets of this CPU as Linux names them; empty elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    return frozenset(
        next((line.split(":")[1].split() for line in lines if line.startswith("flags")), ())
    )


def cpu_name() -> str:
    """Model name of the CPU."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def cuda_usable() -> bool:
    """Whether torch was built for CUDA and a driver is loaded; asked without importing torch."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return False
    version = (Path(spec.origin).parent / "version.py").read_text()
    built = any(line.startswith("cuda") and "None" not in line for line in version.splitlines())
    return built and Path("/proc/driver/nvidia/version").exists()


def resolve(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration with each `auto` replaced by what it means on this machine, and with
    `origin`, the content of what its recipe starts from."""
    device = config["device"]
    if device == "auto":
        device = "cuda" if cuda_usable() else "cpu"
    train = dict(config["train"])
    if train["precision"] == "auto":
        fast_bf16 = device == "cuda" or cpu_flags() & {"avx512_bf16", "amx_bf16"}
        train["precision"] = "bf16" if fast_bf16 else "fp32"
    if train["threads"] == "auto":
        train["threads"] = max(1, cores() // int(os.environ.get("LOCAL_WORLD_SIZE", 1)))
    bench = dict(config["bench"])
    if bench["threads"] == "auto":
        bench["threads"] = cores()
    origin = schema.origin({**config, "train": train})
    if origin is not None:  # one machine trains both: `auto` of the base means the same
        autos = [knob for knob in ("precision", "threads") if origin["train"][knob] == "auto"]
        origin["train"] |= {knob: train[knob] for knob in autos}
    return {**config, "device": device, "train": train, "bench": bench, "origin": origin}


def environment(device: str, threads: int) -> dict[str, Any]:
    """What a figure depends on besides the configuration; recorded, in no fingerprint."""
    return {
        "torch": importlib.metadata.version("torch"),
        "python": platform.python_version(),
        "os": platform.platform(terse=True),
        "cpu": cpu_name(),
        "cores": cores(),
        "device": device,
        "threads": threads,
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }


@cache
def git_state() -> dict[str, Any]:
    """The commit and whether files differ from it; nulls without git."""
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
