"""The last columns of keys and values, in a fixed piece of memory."""

import torch
from torch import Tensor

from micro_transformer.nn.cache.base import CacheSpec


class Ring:
    """(B, H, size, d) for keys and for values; column c lies in slot c mod size."""

    def __init__(self, spec: CacheSpec, size: int):
        shape = (spec.batch, spec.num_heads, size, spec.head_dim)
        self.k = torch.empty(shape, dtype=spec.dtype, device=spec.device)
        self.v = torch.empty_like(self.k)
        self.size, self.start, self.stop = size, 0, 0  # columns held

    def begin(self, column: int) -> None:
        """The ring is empty, and the next column is this."""
        self.start = self.stop = column

    def write(self, k: Tensor, v: Tensor) -> None:
        """The columns after those held; of more than fit the last are kept."""
        first = max(0, k.shape[2] - self.size)
        for begin, end in self._runs(self.stop + first, self.stop + k.shape[2]):
            slot, given = begin % self.size, slice(begin - self.stop, end - self.stop)
            self.k[:, :, slot : slot + end - begin] = k[:, :, given]
            self.v[:, :, slot : slot + end - begin] = v[:, :, given]
        self.stop += k.shape[2]
        self.start = max(self.start, self.stop - self.size)

    def pieces(self, first: int) -> list[tuple[int, Tensor, Tensor]]:
        """(column, k, v) of what is held from column `first` on, in order: at most two."""
        found = []
        for begin, end in self._runs(max(first, self.start), self.stop):
            slot = begin % self.size
            held = slice(slot, slot + end - begin)
            found.append((begin, self.k[:, :, held], self.v[:, :, held]))
        return found

    def reorder(self, rows: Tensor) -> None:
        """Row i holds what row rows[i] held."""
        self.k, self.v = self.k[rows], self.v[rows]

    def nbytes(self) -> int:
        """Bytes of both storages."""
        return self.k.untyped_storage().nbytes() + self.v.untyped_storage().nbytes()

    def _runs(self, begin: int, end: int) -> list[tuple[int, int]]:
        """The columns from begin to end, cut where the slots start again."""
        cut = min(end, (begin // self.size + 1) * self.size)
        return [(a, b) for a, b in ((begin, cut), (cut, end)) if a < b]
