"""The newest columns of keys and values; the oldest of them leave in portions."""

from collections.abc import Iterator

import torch
from torch import Tensor

from micro_transformer.nn.cache.base import CacheSpec


class Tail:
    """(B, H, size, d) for keys and for values, filled from the left; `start` is its first column.

    One slot at least is free between writes.
    """

    def __init__(self, spec: CacheSpec, size: int):
        shape = (2, spec.batch, spec.num_heads, size, spec.head_dim)
        self._held = torch.empty(shape, dtype=spec.dtype, device=spec.device)
        self.size, self.start, self.length = size, 0, 0

    def takes(self, num_new: int) -> bool:
        """So many columns can be written and none leaves."""
        return self.length + num_new < self.size

    def write(self, k: Tensor, v: Tensor, portion: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The columns come after those held. Each time the tail is full, yields the k and v of the
        `portion` oldest, which are gone at the next turn: the caller must exhaust the iterator."""
        done = 0
        while done < k.shape[2]:
            size = min(self.size - self.length, k.shape[2] - done)
            free = self._held.narrow(3, self.length, size)
            free[0], free[1] = k[:, :, done : done + size], v[:, :, done : done + size]
            self.length += size
            done += size
            if self.length == self.size:
                yield self._held[0, :, :, :portion], self._held[1, :, :, :portion]
                self._drop(portion)

    def columns(self) -> tuple[Tensor, Tensor]:
        """k and v (B, H, length, d) of what is held."""
        held = self._held.narrow(3, 0, self.length)
        return held[0], held[1]

    def reorder(self, rows: Tensor) -> None:
        """Row i holds what row rows[i] held."""
        self._held = self._held[:, rows]

    def nbytes(self) -> int:
        """Bytes of the storage."""
        return self._held.untyped_storage().nbytes()

    def _drop(self, portion: int) -> None:
        self.length -= portion
        self.start += portion
        kept = self._held.narrow(3, portion, self.length).clone()
        self._held.narrow(3, 0, self.length).copy_(kept)
