"""A buffer of recent keys and values, from which the oldest are removed in portions."""

from collections.abc import Iterator

import torch
from torch import Tensor

from micro_transformer.nn.cache.base import CacheSpec

# B batch, H heads, d head_dim; column: index of a token in its row, pads included


class Tail:
    """Recent keys and values, (B, H, size, d) each, filled from the left.

    start: the column in slot 0. length: slots in use, fewer than size between writes.
    """

    def __init__(self, spec: CacheSpec, size: int):
        shape = (2, spec.batch, spec.num_heads, size, spec.head_dim)
        self._held = torch.empty(shape, dtype=spec.dtype, device=spec.device)
        self.size, self.start, self.length = size, 0, 0

    def takes(self, num_new: int) -> bool:
        """True if num_new columns can be written without removing any."""
        return self.length + num_new < self.size

    def write(self, k: Tensor, v: Tensor, portion: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Appends k, v (B, H, T, d); each time the buffer is full, yields its `portion` oldest.

        They are views (B, H, portion, d), valid until the next iteration, when they are removed.
        The caller must exhaust the iterator.
        """
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
        """k and v (B, H, length, d), views of the slots in use."""
        held = self._held.narrow(3, 0, self.length)
        return held[0], held[1]

    def reorder(self, rows: Tensor) -> None:
        """New row i is old row rows[i]."""
        self._held = self._held[:, rows]

    def nbytes(self) -> int:
        """Bytes of memory allocated."""
        return self._held.untyped_storage().nbytes()

    def _drop(self, portion: int) -> None:
        self.length -= portion
        self.start += portion
        kept = self._held.narrow(3, portion, self.length).clone()
        self._held.narrow(3, 0, self.length).copy_(kept)
