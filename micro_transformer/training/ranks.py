"""Data-parallel training on ranks started by torchrun, with plain torch.distributed (gloo on CPU,
nccl on CUDA).

Each rank processes its rows of the same global batch and gradients are averaged, so that every rank
makes the step that a single process would make. Only the first rank evaluates, stores and records.
Rank and size come from environment variables; torch is imported only for communication.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from micro_transformer.wording import plural

PATIENCE = timedelta(days=1)  # other ranks wait while the first evaluates or waits for a lock

# Environment variables set by torchrun, with the values of a single process as defaults.
WRITTEN = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}
MEETING = {"MASTER_ADDR", "MASTER_PORT"}  # rendezvous address


class NotStarted(ValueError):
    """The number of started ranks is wrong, or the environment is not torchrun's."""

    status, exit_code = "failed", 2


@dataclass(frozen=True)
class Ranks:
    """Rank of this process and number of ranks; 0 of 1 unless torchrun started more."""

    rank: int = 0
    size: int = 1
    device: str = "cpu"

    @classmethod
    def started(cls, device: str = "cpu") -> "Ranks":
        """Rank and size from torchrun's environment variables; raises NotStarted if they are
        inconsistent."""
        try:
            rank, size, local_rank, local_size = (
                int(os.environ.get(name, default)) for name, default in WRITTEN.items()
            )
        except ValueError:
            raise NotStarted(_leftovers()) from None
        is_one = 0 <= rank < size and local_rank >= 0 and 1 <= local_size <= size
        if not is_one or (size > 1 and not os.environ.keys() >= MEETING):
            raise NotStarted(_leftovers())
        return cls(rank, size, device)

    @property
    def is_first(self) -> bool:
        """Whether this rank evaluates, stores and records."""
        return self.rank == 0

    @property
    def name(self) -> tuple[int, ...]:
        """Suffix of this rank's random streams: empty for the first rank, so that it draws the same
        numbers as a single process.
        """
        return () if self.is_first else (self.rank,)

    def share(self, batch: Any) -> Any:
        """This rank's rows of each tensor in a named tuple: (B, ...) -> (B / size, ...)."""
        return batch if self.size == 1 else type(batch)(*(t[self.rank :: self.size] for t in batch))

    def average_gradients(self, model: Any) -> None:
        """Every rank has the gradients averaged over all ranks."""
        if self.size == 1:
            return
        import torch

        weights = [p for p in model.parameters() if p.requires_grad]
        for p in weights:  # no gradient: this rank's rows did not use the parameter
            p.grad = torch.zeros_like(p) if p.grad is None else p.grad
        whole = self.mean(torch.cat([p.grad.flatten() for p in weights]))
        for p, mean in zip(weights, whole.split([p.numel() for p in weights]), strict=True):
            p.grad.copy_(mean.view_as(p))

    def mean(self, value: Any) -> Any:
        """The tensor averaged over ranks, in place and bit-identical on every rank."""
        if self.size > 1:
            import torch.distributed as dist

            dist.all_reduce(value)
            value /= self.size
        return value

    def largest(self, value: int) -> int:
        """The maximum of `value` over ranks."""
        return int(self._agreed(value, "MAX"))

    def from_first(self, value: float) -> float:
        """The first rank's `value`, broadcast to all ranks."""
        return self._agreed(value if self.is_first else 0.0, "SUM")

    def _agreed(self, value: float, operation: str) -> float:
        if self.size == 1:
            return value
        import torch
        import torch.distributed as dist

        box = torch.tensor(value, dtype=torch.float64, device=self.device)
        dist.all_reduce(box, getattr(dist.ReduceOp, operation))
        return box.item()


def _leftovers() -> str:
    names = [name for name in (*WRITTEN, *sorted(MEETING)) if name in os.environ]
    said = ", ".join(f"{name}={os.environ[name][:40]!a}" for name in names)
    return (
        f"{said}: not what torchrun sets for a rank; unset {', '.join(names)} (another program's?) "
        "or start with torchrun"
    )


def need(size: int) -> None:
    """Raises NotStarted unless exactly `size` ranks were started."""
    started = Ranks.started().size
    if started != size:
        raise NotStarted(
            plural(
                started,
                "ranks={size}: this training is not stored and {n} process was started; use "
                "torchrun --standalone --nproc-per-node {size} run.py ...",
                "ranks={size}: this training is not stored and {n} processes were started; use "
                "torchrun --standalone --nproc-per-node {size} run.py ...",
                size=size,
            )
        )


@contextmanager
def joined(device: str, name: str) -> Iterator[Ranks]:
    """Context manager with an initialized process group; a no-op for a single process. `name` must
    be unique per group: torchrun's key-value store keeps the addresses of earlier groups."""
    ranks = Ranks.started(device)
    if ranks.size == 1:
        yield ranks
        return
    import torch
    import torch.distributed as dist

    if device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    store, rank, size = next(dist.rendezvous("env://", timeout=PATIENCE))
    dist.init_process_group(
        "nccl" if device == "cuda" else "gloo",
        store=dist.PrefixStore(name, store),
        rank=rank,
        world_size=size,
        timeout=PATIENCE,
    )
    try:
        yield ranks
    finally:
        dist.destroy_process_group()
