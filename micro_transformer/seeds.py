"""Random seeds and deterministic execution, for bit-identical results. torch is imported lazily."""

import hashlib
import os
import random


def stream(seed: int, *names: object) -> int:
    """Seed of a named random stream, in [0, 2^63): a hash of seed and names, so that streams are
    independent."""
    text = "/".join(map(str, (seed, *names)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def seed_everything(seed: int) -> None:
    """The global generators of torch, random and numpy are seeded with `seed`."""
    import numpy
    import torch

    random.seed(seed)
    numpy.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def make_deterministic(threads: int) -> None:
    """torch runs deterministically: fixed thread count, deterministic kernels, no autotuning."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    import torch

    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
