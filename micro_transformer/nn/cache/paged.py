"""Paged cache: fixed-size blocks from a pool."""

from collections.abc import Sequence

import torch
from torch import Tensor

from micro_transformer.config.knobs import Count
from micro_transformer.nn.cache.base import CacheLayer, CacheSpec, Segment
from micro_transformer.nn.cache.equal_rows import EqualRows
from micro_transformer.nn.cache.paged_reading import Held, Place, Pool, Reader, readers
from micro_transformer.nn.visibility import Wanted

# B rows of the batch, H heads, T new tokens, n tokens of a segment, d head_dim;
# R rows of a slab, each of S slots, one per token

# Blocks per row up to which a slab is extended, by a copy of it; after that a new one begins.
EXTENDED = 16


class Paged(CacheLayer):
    """Blocks of `block` tokens from a pool, with a block table per row (Kwon et al., 2023).

    A block is allocated when a row reaches it, so less than one block per row is unused; a
    contiguous cache allocates max_len at the start. Rows with one parent share its blocks (copy on
    write); blocks of dropped rows return to the free list.

    The pool is one tensor or a few, slabs, where the blocks of a row are side by side: those in
    order are read as one view, and so are those in any order for one query per row, since attention
    does not depend on the order of the keys. Rows that share most blocks, as in beam search, read
    each once, and of the block in which they part copy the columns that differ. Other blocks in
    several rows of a slab are copied at each read.
    """

    segmented = True

    def __init__(self, spec: CacheSpec, *, block: Count):
        super().__init__(spec)
        self.block = block
        self.pool = Pool([], [], block)
        # Index of the block that is written; its rows, and their views (2, n, H, block, d).
        self._open: int | None
        self._targets: list[tuple[slice, Tensor]]
        self._asked: tuple[list[int], bool] | None  # what `_readers` read: blocks, one query
        self._readers: Sequence[Reader]
        self.reset()

    @property
    def num_blocks(self) -> int:
        """Blocks in the pool, free ones included."""
        return len(self.pool.places)

    def reset(self) -> None:
        self.free = list(reversed(range(self.num_blocks)))  # taken from the end
        self.table: list[list[int]] = [[] for _ in range(self.spec.batch)]  # block numbers
        self._owners = [0] * self.num_blocks  # reference count of each block
        self._length = 0
        self._equal = EqualRows(self.spec.batch)
        self._forget()

    def append(self, k: Tensor, v: Tensor, pos: Tensor) -> None:
        done, num_new = 0, k.shape[2]
        self._reserve(num_new)
        while done < num_new:
            index, at = divmod(self._length + done, self.block)
            size = min(self.block - at, num_new - done)
            if index != self._open:
                self._open, self._targets = index, self._for_writing(index)
            for rows, held in self._targets:
                for i, new in enumerate((k, v)):
                    held[i].narrow(2, at, size).copy_(new[rows].narrow(2, done, size))
            done += size
        self._length += num_new

    def segments(self, wanted: Wanted) -> Sequence[Segment]:
        if not self.table:
            spec = self.spec
            shape = (2, 0, spec.num_heads, self._length, spec.head_dim)
            return [Segment(0, *torch.empty(shape, dtype=spec.dtype, device=spec.device))]
        asked = wanted.blocks(self.block), wanted.num_queries == 1
        if asked != self._asked:
            indices, single = self._asked = asked
            held = Held(self._length, self._equal.common) if single else None
            self._readers = readers(self.pool, self.table, indices, held)
        return [reader.segment(self._length) for reader in self._readers]

    def reorder(self, rows: Tensor) -> None:
        before, parents = self.table, rows.tolist()
        self._equal.reorder(parents, self._length)
        self.table = [list(before[row]) for row in parents]
        for table in self.table:
            for number in table:
                self._owners[number] += 1
        for table in before:
            for number in table:
                self._release(number)
        self._forget()

    def nbytes(self) -> int:
        return sum(slab.nbytes for slab in self.pool.slabs)

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

    def _forget(self) -> None:
        """The table or the pool has changed, so views of it are made anew."""
        self._open, self._targets = None, []
        self._asked, self._readers = None, []

    def _reserve(self, num_new: int) -> None:
        """The free list has the blocks that num_new more tokens per row will take."""
        if not self.table:
            return
        index, at = divmod(self._length, self.block)
        num_blocks = -(-(self._length + num_new) // self.block) - len(self.table[0])
        missing = num_blocks * len(self.table) - len(self.free)
        if at:  # of the rows that share the last block, all but one copy it
            missing += len(self.table) - len({table[index] for table in self.table})
        if missing > 0:
            self._extend(min(missing, len(self.table)), -(-missing // len(self.table)))

    def _extend(self, rows: int, num_blocks: int) -> None:
        """The pool has num_blocks more blocks for each of `rows` rows."""
        spec, first, before = self.spec, 0, self.num_blocks
        slabs, places = self.pool.slabs, self.pool.places
        last = slabs[-1] if slabs else None
        # Zeros, since a hidden value has the weight 0, which times NaN would be NaN.
        if max(self._owners, default=0) > 1:  # rows that share blocks read the pool together
            rows, num_blocks = 1, rows * num_blocks
        shape = (2, rows, spec.num_heads, num_blocks * self.block, spec.head_dim)
        new = torch.zeros(shape, dtype=spec.dtype, device=spec.device)
        if last is not None and len(last[0]) == rows and last.shape[3] < EXTENDED * self.block:
            first = last.shape[3]
            slabs[-1] = torch.cat((last, new), 3)
        else:
            slabs.append(new)
        starts = range(first, first + new.shape[3], self.block)
        slab = len(slabs) - 1
        places += [Place(slab, row, start) for start in starts for row in range(rows)]
        self._owners += [0] * (self.num_blocks - before)
        self.free[:0] = reversed(range(before, self.num_blocks))  # after those free by now
        self._forget()

    def _take(self) -> int:
        number = self.free.pop()
        self._owners[number] = 1
        return number

    def _release(self, number: int) -> None:
        self._owners[number] -= 1
        if not self._owners[number]:
            self.free.append(number)

    def _for_writing(self, index: int) -> list[tuple[slice, Tensor]]:
        """Views of block `index` of all rows, which no two rows share: it is allocated if new."""
        self._asked = None
        for table in self.table:
            if index == len(table):
                table.append(self._take())
            elif self._owners[table[index]] > 1:
                shared = table[index]
                table[index] = self._take()
                filled = self._length - index * self.block
                copy = self.pool.slots(table[index]).narrow(3, 0, filled)
                copy.copy_(self.pool.slots(shared).narrow(3, 0, filled))
                self._release(shared)
        numbers = [table[index] for table in self.table]
        places = [self.pool.places[number] for number in numbers]
        if places and places == [
            places[0]._replace(row=places[0].row + i) for i in range(len(places))
        ]:
            return [(slice(None), self.pool.slots(numbers[0], len(numbers)))]
        return [
            (slice(row, row + 1), self.pool.slots(number)) for row, number in enumerate(numbers)
        ]
