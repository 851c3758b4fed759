"""Seeds, devices, threads: all that must be the same for the same figures.

torch is imported only where it is used.
"""

import hashlib
import importlib.metadata
import os
import platform
import random
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

from micro_transformer import machine, schema


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


def resolve(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration with each `auto` replaced by what it means on this machine, and with
    `origin`, the content of what its recipe starts from."""
    device = config["device"]
    if device == "auto":
        device = "cuda" if machine.cuda_usable() else "cpu"
    narrow = "bf16" if machine.has_bf16(device) else "fp32"
    here = {"precision": narrow, "matrix_dtype": narrow, "threads": machine.threads(_local_ranks())}
    train = {k: here[k] if v == "auto" and k in here else v for k, v in config["train"].items()}
    bench = dict(config["bench"])
    if bench["threads"] == "auto":
        bench["threads"] = machine.threads()
    origin = schema.origin({**config, "train": train})
    if origin is not None:  # one machine trains both: `auto` of the base means the same
        origin["train"] |= {knob: train[knob] for knob in here if origin["train"][knob] == "auto"}
    return {**config, "device": device, "train": train, "bench": bench, "origin": origin}


def _local_ranks() -> int:
    """Processes that train together on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1))


def environment(device: str, threads: int) -> dict[str, Any]:
    """What a figure depends on besides the configuration; recorded, in no fingerprint."""
    return {
        "torch": importlib.metadata.version("torch"),
        "python": platform.python_version(),
        "os": platform.platform(terse=True),
        "cpu": machine.cpu_name(),
        "isa": machine.isa(),
        "cores": machine.cores(),
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
