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
    write); blocks of dropped rows return to the free list. Blocks that all rows share, or that were
    allocated together for rows that are still in their order, are read without a copy.
    """

    segmented = True

    def __init__(self, spec: CacheSpec, *, block: Count):
        super().__init__(spec)
        self.block = block
        self.pool: list[Tensor] = []  # each (2, H, block, d): keys, values
        self._slabs: list[Tensor] = []  # each (2, B, H, block, d): blocks allocated together
        self._place: list[tuple[int, int]] = []  # slab of each block of the pool, and row there
        self.reset()

    def reset(self) -> None:
        self.free = list(reversed(range(len(self.pool))))  # taken from the end
        self.table: list[list[int]] = [[] for _ in range(self.spec.batch)]  # block numbers
        self._owners = [0] * len(self.pool)  # reference count of each block of the pool
        self._length = 0
        self._views: dict[int, Segment] = {}  # full blocks that are read without a copy

    def append(self, k: Tensor, v: Tensor, pos: Tensor) -> None:
        new = torch.stack((k, v)).to(self.spec.dtype)  # (2, B, H, T, d)
        done, num_new = 0, k.shape[2]
        while done < num_new:
            index, at = divmod(self._length + done, self.block)
            size = min(self.block - at, num_new - done)
            if at == 0:
                self._allocate()
            numbers = [self._writable(table, index) for table in self.table]
            self._write(numbers, at, new[:, :, :, done : done + size])
            done += size
        self._length += num_new

    def _write(self, numbers: list[int], at: int, new: Tensor) -> None:
        """new (2, B, H, n, d) is in the blocks of the rows, from slot `at` on."""
        held, slots = self._view(numbers), slice(at, at + new.shape[3])
        if held is not None:
            held[:, :, :, slots] = new
            return
        for row, number in enumerate(numbers):
            self.pool[number][:, :, slots] = new[:, row]

    def segments(self, wanted: Wanted) -> Sequence[Segment]:
        return [self._segment(index) for index in wanted.blocks(self.block)]

    def _segment(self, index: int) -> Segment:
        if index in self._views:
            return self._views[index]
        start = index * self.block
        size = min(self.block, self._length - start)
        both = self._view([table[index] for table in self.table])
        if both is None:
            held = [self.pool[table[index]][:, None, :, :size] for table in self.table]
            both = torch.cat(held or [self._of_no_rows(size)], 1)
            return Segment(start, both[0], both[1])  # (B, H, n, d) each
        segment = Segment(start, both[0, :, :, :size], both[1, :, :, :size])
        if size == self.block:
            self._views[index] = segment
        return segment

    def _view(self, numbers: list[int]) -> Tensor | None:
        """Blocks as a view (2, B, H, block, d); None if they must be copied."""
        if not numbers:
            return None
        if len(set(numbers)) == 1:
            return self.pool[numbers[0]][:, None].expand(-1, len(numbers), -1, -1, -1)
        slab, first = self._place[numbers[0]]
        in_order = [(slab, first + row) for row in range(len(numbers))]
        if [self._place[number] for number in numbers] != in_order:
            return None
        return self._slabs[slab][:, first : first + len(numbers)]

    def _of_no_rows(self, size: int) -> Tensor:
        spec = self.spec
        shape = (2, 0, spec.num_heads, size, spec.head_dim)
        return torch.empty(shape, dtype=spec.dtype, device=spec.device)

    def reorder(self, rows: Tensor) -> None:
        self._views = {}
        before = self.table
        self.table = [list(before[row]) for row in rows.tolist()]
        for table in self.table:
            for number in table:
                self._owners[number] += 1
        for table in before:
            self._give_back(table)

    def nbytes(self) -> int:
        return sum(slab.nbytes for slab in self._slabs)

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

    def _writable(self, table: list[int], index: int) -> int:
        """Number of block `index` of a row, for writing: allocated if new, copied if shared."""
        if index == len(table):
            table.append(self._take())
        elif self._owners[table[index]] > 1:
            shared = table[index]
            table[index] = self._take()
            self.pool[table[index]].copy_(self.pool[shared])
            self._owners[shared] -= 1
        return table[index]

    def _allocate(self) -> None:
        """The next block of each row is in the free list, those of one slab in the rows' order."""
        if not self.free and self.table:
            self._add(len(self.table))

    def _add(self, num: int) -> None:
        spec = self.spec
        shape = (2, num, spec.num_heads, self.block, spec.head_dim)
        slab = torch.empty(shape, dtype=spec.dtype, device=spec.device)
        self.free += range(len(self.pool) + num - 1, len(self.pool) - 1, -1)
        self._place += [(len(self._slabs), row) for row in range(num)]
        self._owners += [0] * num
        self.pool += [slab[:, row] for row in range(num)]
        self._slabs.append(slab)

    def _take(self) -> int:
        if not self.free:
            self._add(1)
        number = self.free.pop()
        self._owners[number] = 1
        return number

    def _give_back(self, table: list[int]) -> None:
        for number in table:
            self._owners[number] -= 1
            if not self._owners[number]:
                self.free.append(number)
