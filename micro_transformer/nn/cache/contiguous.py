"""One preallocated tensor per layer for keys and one for values."""

from collections.abc import Sequence

import torch
from torch import Tensor

from micro_transformer.nn.cache.base import CacheLayer, CacheSpec, Segment
from micro_transformer.nn.cache.equal_rows import EqualRows
from micro_transformer.nn.visibility import Wanted
from micro_transformer.wording import _

# B batch, H heads, d head_dim


class Contiguous(CacheLayer):
    """Keys and values, (B, H, max_len, d) each; appending copies the new tokens only, and a reorder
    of few rows what they do not have in common: in beam search the last tokens."""

    def __init__(self, spec: CacheSpec):
        super().__init__(spec)
        self.reset()

    def reset(self) -> None:
        spec = self.spec
        shape = (spec.batch, spec.num_heads, spec.max_len, spec.head_dim)
        self._k = torch.empty(shape, dtype=spec.dtype, device=spec.device)
        self._v = torch.empty_like(self._k)
        self._length = 0
        self._equal = EqualRows(spec.batch)

    def append(self, k: Tensor, v: Tensor, pos: Tensor) -> None:
        start, num_new = self._length, k.shape[2]
        if start + num_new > self.spec.max_len:
            raise ValueError(
                _(
                    "{n} tokens do not fit a cache of max_len={max_len}",
                    n=start + num_new,
                    max_len=self.spec.max_len,
                )
            )
        self._k.narrow(2, start, num_new).copy_(k)
        self._v.narrow(2, start, num_new).copy_(v)
        self._length += num_new

    def segments(self, wanted: Wanted) -> Sequence[Segment]:
        found = [
            Segment(each.start, self._k.narrow(2, each.start, len(each)),
                    self._v.narrow(2, each.start, len(each)))
            for each in wanted.ranges
        ]  # fmt: skip
        if wanted.num_queries == 1:
            for segment in found:
                segment.equal = max(0, min(self._equal.common, segment.stop) - segment.start)
        return found

    def reorder(self, rows: Tensor) -> None:
        """New row i is old row rows[i]; a row that stays is not copied, nor is unused memory. A
        smaller batch keeps the memory of the larger one."""
        old, first = self._held(), self._equal.reorder(rows.tolist(), self._length)
        if len(rows) <= len(self._k):
            moved = (rows != torch.arange(len(rows), device=rows.device)).nonzero()[:, 0]
            for held in old:
                part = held.narrow(2, first, self._length - first)
                part[moved] = part[rows[moved]]
            self._k, self._v = self._k[: len(rows)], self._v[: len(rows)]
            return
        shape = (len(rows), *self._k.shape[1:])
        self._k, self._v = self._k.new_empty(shape), self._v.new_empty(shape)
        for held, new in zip(old, self._held(), strict=True):
            new.copy_(held[rows])

    def nbytes(self) -> int:
        return self._k.untyped_storage().nbytes() + self._v.untyped_storage().nbytes()

    def predicted_nbytes(self, tokens: int) -> int:
        return self.spec.max_len * self.token_nbytes()

    def used_nbytes(self) -> int:
        return sum(held.nbytes for held in self._held())

    def _held(self) -> tuple[Tensor, Tensor]:
        return self._k.narrow(2, 0, self._length), self._v.narrow(2, 0, self._length)
