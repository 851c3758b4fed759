"""A ring buffer of the last keys and values."""

import torch
from torch import Tensor

from micro_transformer.nn.cache.base import CacheSpec

# B batch, H heads, T new tokens, d head_dim; column: index of a token in its row, with pads


class Ring:
    """The last `size` keys and values, (B, H, size, d) each; column c is in slot c mod size."""

    def __init__(self, spec: CacheSpec, size: int):
        shape = (spec.batch, spec.num_heads, size, spec.head_dim)
        self.k = torch.empty(shape, dtype=spec.dtype, device=spec.device)
        self.v = torch.empty_like(self.k)
        self.size, self.start, self.stop = size, 0, 0  # columns stored: start to stop - 1

    def begin(self, column: int) -> None:
        """The buffer is empty, and the next column to be written is `column`."""
        self.start = self.stop = column

    def write(self, k: Tensor, v: Tensor) -> None:
        """Appends k, v (B, H, T, d), overwriting the oldest; of T > size the last are kept."""
        first = max(0, k.shape[2] - self.size)
        for begin, end in self._runs(self.stop + first, self.stop + k.shape[2]):
            slot, given = begin % self.size, slice(begin - self.stop, end - self.stop)
            self.k[:, :, slot : slot + end - begin] = k[:, :, given]
            self.v[:, :, slot : slot + end - begin] = v[:, :, given]
        self.stop += k.shape[2]
        self.start = max(self.start, self.stop - self.size)

    def pieces(self, first: int) -> list[tuple[int, Tensor, Tensor]]:
        """Columns from `first` on as at most two (column, k, v), in order; k, v are views."""
        found = []
        for begin, end in self._runs(max(first, self.start), self.stop):
            slot = begin % self.size
            held = slice(slot, slot + end - begin)
            found.append((begin, self.k[:, :, held], self.v[:, :, held]))
        return found

    def reorder(self, rows: Tensor) -> None:
        """New row i is old row rows[i]."""
        self.k, self.v = self.k[rows], self.v[rows]

    def nbytes(self) -> int:
        """Bytes of memory allocated."""
        return self.k.untyped_storage().nbytes() + self.v.untyped_storage().nbytes()

    def _runs(self, begin: int, end: int) -> list[tuple[int, int]]:
        """Columns begin to end - 1 as ranges of adjacent slots, split where they wrap around."""
        cut = min(end, (begin // self.size + 1) * self.size)
        return [(a, b) for a, b in ((begin, cut), (cut, end)) if a < b]
