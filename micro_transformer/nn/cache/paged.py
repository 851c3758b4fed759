"""Paged cache: fixed-size blocks from a pool."""

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from micro_transformer.config.knobs import Count
from micro_transformer.nn.cache.base import CacheLayer, CacheSpec, ScatteredSegment, Segment
from micro_transformer.nn.visibility import Wanted

# B rows of the batch, H heads, T new tokens, n tokens of a segment, d head_dim;
# R rows of a slab, each of S slots, one per token

# Blocks per row up to which a slab is extended, by a copy of it; after that a new one begins.
EXTENDED = 16


class Place(NamedTuple):
    """Where a block is: the slots from `start` on, in one row of a slab."""

    slab: int
    row: int
    start: int


class Paged(CacheLayer):
    """Blocks of `block` tokens from a pool, with a block table per row (Kwon et al., 2023).

    A block is allocated when a row reaches it, so less than one block per row is unused; a
    contiguous cache allocates max_len at the start. Rows with one parent share its blocks (copy on
    write); blocks of dropped rows return to the free list.

    The pool is one tensor or a few, slabs, where the blocks of a row are side by side: those in
    order are read as one view, and so are those in any order for one query per row, since attention
    does not depend on the order of the keys. Blocks of a row in several rows of a slab are copied.
    """

    segmented = True

    def __init__(self, spec: CacheSpec, *, block: Count):
        super().__init__(spec)
        self.block = block
        self._slabs: list[Tensor] = []  # each (2, R, H, S, d): keys, values
        self._places: list[Place] = []  # by block number
        # Index of the block that is written; its rows, and their views (2, n, H, block, d).
        self._open: int | None
        self._targets: list[tuple[slice, Tensor]]
        self._asked: tuple[list[int], bool] | None  # what `_readers` read
        self._readers: Sequence[Reader]
        self.reset()

    @property
    def num_blocks(self) -> int:
        """Blocks in the pool, free ones included."""
        return len(self._places)

    def reset(self) -> None:
        self.free = list(reversed(range(self.num_blocks)))  # taken from the end
        self.table: list[list[int]] = [[] for _ in range(self.spec.batch)]  # block numbers
        self._owners = [0] * self.num_blocks  # reference count of each block
        self._length = 0
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
        asked = wanted.blocks(self.block), wanted.num_queries == 1
        if asked != self._asked:
            self._asked, self._readers = asked, self._for_reading(*asked)
        return [reader.segment(self._length) for reader in self._readers]

    def reorder(self, rows: Tensor) -> None:
        before = self.table
        self.table = [list(before[row]) for row in rows.tolist()]
        for table in self.table:
            for number in table:
                self._owners[number] += 1
        for table in before:
            for number in table:
                self._release(number)
        self._forget()

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
        last = self._slabs[-1] if self._slabs else None
        # Zeros, since a hidden value has the weight 0, which times NaN would be NaN.
        shape = (2, rows, spec.num_heads, num_blocks * self.block, spec.head_dim)
        new = torch.zeros(shape, dtype=spec.dtype, device=spec.device)
        if last is not None and len(last[0]) == rows and last.shape[3] < EXTENDED * self.block:
            first = last.shape[3]
            self._slabs[-1] = torch.cat((last, new), 3)
        else:
            self._slabs.append(new)
        starts = range(first, first + new.shape[3], self.block)
        slab = len(self._slabs) - 1
        self._places += [Place(slab, row, start) for start in starts for row in range(rows)]
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
                copy = self._view(table[index]).narrow(3, 0, filled)
                copy.copy_(self._view(shared).narrow(3, 0, filled))
                self._release(shared)
        numbers = [table[index] for table in self.table]
        places = [self._places[number] for number in numbers]
        if places and places == [
            places[0]._replace(row=places[0].row + i) for i in range(len(places))
        ]:
            return [(slice(None), self._view(numbers[0], len(numbers)))]
        return [(slice(row, row + 1), self._view(number)) for row, number in enumerate(numbers)]

    def _view(self, number: int, rows: int = 1) -> Tensor:
        """(2, rows, H, block, d): a block, and those at its slots in the next rows."""
        slab, row, start = self._places[number]
        return self._slabs[slab][:, row : row + rows].narrow(3, start, self.block)

    def _for_reading(self, indices: list[int], single: bool) -> "list[Reader]":
        """Readers of blocks; single: there is one query per row, so the order is free."""
        readers: list[Reader] = []
        together: dict[tuple[int, tuple[int, ...]], list[int]] = defaultdict(list)
        for index in indices:
            places = [self._places[table[index]] for table in self.table]
            rows = tuple(place.row for place in places)
            one_slab = len({place.slab for place in places}) == 1
            if one_slab and (
                len({*rows}) == 1 or rows == tuple(range(rows[0], rows[0] + len(rows)))
            ):
                together[places[0].slab, rows].append(index)
            else:
                readers.append(self._copier(index))
        for (slab, rows), part in together.items():
            num = len({*rows})
            held = self._slabs[slab][:, rows[0] : rows[0] + num].expand(-1, len(rows), -1, -1, -1)
            starts = [[self._places[table[index]].start for index in part] for table in self.table]
            readers += self._of_slab(held, part, starts, single)
        return sorted(readers, key=lambda reader: reader.start)

    def _of_slab(
        self, held: Tensor, indices: list[int], starts: list[list[int]], single: bool
    ) -> "list[Reader]":
        """Readers of blocks in held (2, B, H, S, d), which begin at the slots starts[row][i]."""
        runs: list[list[int]] = []  # numbers of blocks in `indices`
        alike = all(row == starts[0] for row in starts)
        for i in range(len(indices) if alike else 0):
            follows = i and indices[i] == indices[i - 1] + 1
            if follows and starts[0][i] == starts[0][i - 1] + self.block:
                runs[-1].append(i)
            else:
                runs.append([i])
        first = min(map(min, starts))
        span = max(map(max, starts)) + self.block - first
        if single and len(runs) != 1 and span <= 2 * len(indices) * self.block:
            columns = torch.full((1 if alike else len(starts), span), -1)
            for row, slots in zip(columns, starts, strict=False):
                for index, start in zip(indices, slots, strict=True):
                    block = torch.arange(index * self.block, (index + 1) * self.block)
                    row[start - first : start - first + self.block] = block
            both = held.narrow(3, first, span)
            name = (tuple(indices), *map(tuple, starts))
            columns = (columns[0] if alike else columns).to(held.device)
            made = ScatteredSegment(both[0], both[1], columns, name)
            return [Scattered(indices[0] * self.block, made)]
        if not alike:
            return [self._copier(index) for index in indices]
        return [
            Run(
                indices[run[0]] * self.block,
                held.narrow(3, starts[0][run[0]], len(run) * self.block),
            )
            for run in runs
        ]

    def _copier(self, index: int) -> "Copier":
        """Of a block whose rows are not in order."""
        spec = self.spec
        shape = (2, 0, spec.num_heads, self.block, spec.head_dim)
        empty = torch.empty(shape, dtype=spec.dtype, device=spec.device)
        return Copier(index * self.block, [empty, *(self._view(t[index]) for t in self.table)])


class Reader(Protocol):
    """Makes the segment of some blocks."""

    @property
    def start(self) -> int:
        """The first column."""

    def segment(self, length: int) -> Segment:
        """Its columns, of `length` in total."""


class Run(NamedTuple):
    """Blocks in order, a view (2, B, H, n, d)."""

    start: int  # column
    held: Tensor

    def segment(self, length: int) -> Segment:
        held = self.held.narrow(3, 0, min(self.held.shape[3], length - self.start))
        return Segment(self.start, held[0], held[1])


class Scattered(NamedTuple):
    """Blocks in any order, a view whose unfilled slots are hidden by the mask."""

    start: int  # column of the first block
    made: ScatteredSegment

    def segment(self, length: int) -> Segment:
        return self.made


class Copier(NamedTuple):
    """One block of several rows, (2, 1, H, block, d) each, copied at each read."""

    start: int  # column
    rows: list[Tensor]

    def segment(self, length: int) -> Segment:
        size = min(self.rows[0].shape[3], length - self.start)
        return Segment(self.start, *torch.cat([row.narrow(3, 0, size) for row in self.rows], 1))
