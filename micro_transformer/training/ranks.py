"""The processes that train one net together, as torchrun started them: data parallel with raw
torch.distributed, gloo on CPU and nccl on CUDA.

Each rank takes its rows of the same batch and gradients are averaged, so that every rank makes the
same step as one process would. The first rank alone evaluates, stores and records. The environment
says who a process is; torch is imported only to talk.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

PATIENCE = timedelta(days=1)  # the others wait while the first evaluates, or waits for a lock

# What torchrun writes into a process's environment, and what it means where that is missing.
WRITTEN = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}
MEETING = {"MASTER_ADDR", "MASTER_PORT"}  # where the ranks meet


class NotStarted(ValueError):
    """A training wants other ranks than were started."""

    status, exit_code = "failed", 2


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together; alone unless torchrun started more."""

    rank: int = 0
    size: int = 1
    device: str = "cpu"

    @classmethod
    def started(cls, device: str = "cpu") -> "Ranks":
        """Who this process is, by what torchrun wrote into its environment; NotStarted when that
        is not what torchrun writes."""
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
        """What a stream of random numbers adds to its name: nothing for the first rank, so that it
        draws what one process would.
        """
        return () if self.is_first else (self.rank,)

    def share(self, batch: Any) -> Any:
        """This rank's rows of a named tuple of tensors, (B, ...) -> (B / size, ...)."""
        return batch if self.size == 1 else type(batch)(*(t[self.rank :: self.size] for t in batch))

    def average_gradients(self, model: Any) -> None:
        """Every rank holds the mean of the ranks' gradients."""
        if self.size == 1:
            return
        import torch

        weights = [p for p in model.parameters() if p.requires_grad]
        for p in weights:  # a part that this rank's rows did not reach
            p.grad = torch.zeros_like(p) if p.grad is None else p.grad
        whole = self.mean(torch.cat([p.grad.flatten() for p in weights]))
        for p, mean in zip(weights, whole.split([p.numel() for p in weights]), strict=True):
            p.grad.copy_(mean.view_as(p))

    def mean(self, value: Any) -> Any:
        """The mean of the ranks' tensors, the same bits on each; in place."""
        if self.size > 1:
            import torch.distributed as dist

            dist.all_reduce(value)
            value /= self.size
        return value

    def largest(self, value: int) -> int:
        """The largest of the ranks' numbers."""
        return int(self._agreed(value, "MAX"))

    def from_first(self, value: float) -> float:
        """The first rank's number."""
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
    """ValueError when a training of `size` ranks cannot begin here."""
    started = Ranks.started().size
    if started != size:
        raise NotStarted(
            f"ranks={size}: this training is not stored and {started} process"
            f"{'es were' if started > 1 else ' was'} started; use torchrun --standalone "
            f"--nproc-per-node {size} run.py ..."
        )


@contextmanager
def joined(device: str, name: str) -> Iterator[Ranks]:
    """This process has met the other ranks; alone it meets nobody. Each meeting of a command has a
    name of its own: torchrun's store still holds the addresses of the last."""
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
