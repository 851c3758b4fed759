"""Seeds and determinism: what must be the same for the same bits.

torch is imported only where it is used.
"""

import hashlib
import os
import random


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
