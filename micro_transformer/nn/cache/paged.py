"""Paged cache: fixed-size blocks from a pool."""

from collections.abc import Sequence

import torch
from torch import Tensor

from micro_transformer.config.knobs import Count
from micro_transformer.nn.cache.base import CacheLayer, CacheSpec, Segment
from micro_transformer.nn.visibility import Wanted

# B rows of the batch, H heads, T new tokens, n tokens of a segment, d head_dim


class Paged(CacheLayer):
    """Blocks of `block` tokens from a pool, with a block table per row (Kwon et al., 2023).

    A block is allocated when a row reaches it, so less than one block per row is unused; a
    contiguous cache allocates max_len at the start. Rows with one parent share its blocks (copy on
    write); blocks of dropped rows return to the free list.
    """

    segmented = True

    def __init__(self, spec: CacheSpec, *, block: Count):
        super().__init__(spec)
        self.block = block
        self.pool: list[Tensor] = []  # each (2, H, block, d): keys, values
        self.reset()

    def reset(self) -> None:
        self.free = list(range(len(self.pool)))
        self.table: list[list[int]] = [[] for _ in range(self.spec.batch)]  # block numbers
        self._owners = [0] * len(self.pool)  # reference count of each block of the pool
        self._length = 0
        self._whole: list[Segment] = []  # full blocks as segments, for a batch of one row

    def append(self, k: Tensor, v: Tensor, pos: Tensor) -> None:
        new = torch.stack((k, v), 1).to(self.spec.dtype)  # (B, 2, H, T, d)
        done, num_new = 0, k.shape[2]
        while done < num_new:
            index, at = divmod(self._length + done, self.block)
            size = min(self.block - at, num_new - done)
            for row, table in enumerate(self.table):
                held = self._writable(table, index)
                held[:, :, at : at + size] = new[row, :, :, done : done + size]
            done += size
        self._length += num_new

    def segments(self, wanted: Wanted) -> Sequence[Segment]:
        if len(self.table) == 1:
            full = range(len(self._whole), self._length // self.block)
            self._whole += [self._segment(index) for index in full]
        kept = self._whole
        return [
            kept[index] if index < len(kept) else self._segment(index)
            for index in wanted.blocks(self.block)
        ]

    def _segment(self, index: int) -> Segment:
        start = index * self.block
        size = min(self.block, self._length - start)
        held = [self.pool[table[index]][:, None, :, :size] for table in self.table]
        both = held[0] if len(held) == 1 else torch.cat(held or [self._of_no_rows(size)], 1)
        return Segment(start, both[0], both[1])  # (B, H, n, d) each

    def _of_no_rows(self, size: int) -> Tensor:
        spec = self.spec
        shape = (2, 0, spec.num_heads, size, spec.head_dim)
        return torch.empty(shape, dtype=spec.dtype, device=spec.device)

    def reorder(self, rows: Tensor) -> None:
        self._whole = []
        before = self.table
        self.table = [list(before[row]) for row in rows.tolist()]
        for table in self.table:
            for number in table:
                self._owners[number] += 1
        for table in before:
            self._give_back(table)

    def nbytes(self) -> int:
        return sum(held.untyped_storage().nbytes() for held in self.pool)

    def predicted_nbytes(self, tokens: int) -> int:
        return -(-tokens // self.block) * self.block * self.token_nbytes()

    def used_nbytes(self) -> int:
        filled = {
            number: min(self.block, self._length - index * self.block)
            for table in self.table
            for index, number in enumerate(table)
        }
        spec = self.spec
        return sum(filled.values()) * 2 * spec.num_heads * spec.head_dim * spec.dtype.itemsize

    def _writable(self, table: list[int], index: int) -> Tensor:
        """Block `index` of a row, for writing: allocated if new, copied first if shared."""
        if index == len(table):
            table.append(self._take())
        elif self._owners[table[index]] > 1:
            shared = table[index]
            table[index] = self._take()
            self.pool[table[index]].copy_(self.pool[shared])
            self._owners[shared] -= 1
        return self.pool[table[index]]

    def _take(self) -> int:
        if not self.free:
            spec = self.spec
            shape = (2, spec.num_heads, self.block, spec.head_dim)
            self.pool.append(torch.empty(shape, dtype=spec.dtype, device=spec.device))
            self._owners.append(0)
            self.free.append(len(self.pool) - 1)
        number = self.free.pop()
        self._owners[number] = 1
        return number

    def _give_back(self, table: list[int]) -> None:
        for number in table:
            self._owners[number] -= 1
            if not self._owners[number]:
                self.free.append(number)
