"""How the blocks of a paged cache are read: as views of the pool where that is possible."""

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from micro_transformer.nn.cache.base import ScatteredSegment, Segment

# B rows of the batch, H heads, n tokens of a segment, d head_dim; R rows of a slab, each of S
# slots, one per token

Table = list[list[int]]  # block numbers of each row, in order of their tokens
READ = 2  # slots read per slot of a row's blocks, up to which they are read as one view
SHORT = 4  # columns of a block per column that differs by row, from which those alone are copied


class Place(NamedTuple):
    """Where a block is: the slots from `start` on, in one row of a slab."""

    slab: int
    row: int
    start: int


class Pool(NamedTuple):
    """The memory of one layer: slabs (2, R, H, S, d) of keys and values, with places by block
    number."""

    slabs: list[Tensor]
    places: list[Place]
    block: int  # tokens

    def slots(self, number: int, rows: int = 1) -> Tensor:
        """(2, rows, H, block, d): a block, and those at its slots in the next rows."""
        slab, row, start = self.places[number]
        return self.slabs[slab][:, row : row + rows].narrow(3, start, self.block)

    def columns(self, index: int) -> Tensor:
        """(block,): of the tokens of block `index` of a row."""
        return torch.arange(index * self.block, (index + 1) * self.block)


class Held(NamedTuple):
    """Columns of a cache that one query per row reads: all, and those equal in all rows."""

    length: int
    equal: int


class Reader(Protocol):
    """Makes the segment of some blocks."""

    @property
    def start(self) -> int:
        """The first column."""

    def segment(self, length: int) -> Segment:
        """Its columns, of `length` in total."""


class Run(NamedTuple):
    """Blocks in order, a view (2, B, H, n, d), or (2, 1, H, n, d) if all rows share them."""

    start: int  # column
    held: Tensor
    shared: bool

    def segment(self, length: int) -> Segment:
        k, v = self.held.narrow(3, 0, min(self.held.shape[3], length - self.start))
        return Segment(self.start, k, v, shared=self.shared)


class Scattered(NamedTuple):
    """Blocks in any order, a view whose unfilled slots are hidden by the mask."""

    start: int  # column of the first block
    made: ScatteredSegment

    def segment(self, length: int) -> Segment:
        return self.made


class Copier(NamedTuple):
    """One block of each row, (2, 1, H, block, d) each, copied at each read."""

    start: int  # column
    rows: list[Tensor]

    def segment(self, length: int) -> Segment:
        size = min(self.rows[0].shape[3], length - self.start)
        return Segment(self.start, *torch.cat([row.narrow(3, 0, size) for row in self.rows], 1))


def readers(pool: Pool, table: Table, indices: list[int], single: Held | None) -> Sequence[Reader]:
    """Readers of the blocks with these indices of all rows, by first column.

    single: what is held, where there is one query per row, so that the order of the keys is free.
    """
    views: dict[tuple[int, tuple[int, ...]], list[int]] = defaultdict(list)
    apart: list[int] = []
    for index in indices:
        places = [pool.places[numbers[index]] for numbers in table]
        first, rows = places[0], tuple(place.row for place in places)
        if all(place == first for place in places):  # one block, shared by all rows
            views[first.slab, (first.row,)].append(index)
        elif all(place.slab == first.slab and place.row == first.row + i
                 for i, place in enumerate(places)):  # fmt: skip
            views[first.slab, rows].append(index)
        else:
            apart.append(index)
    found: list[Reader] = []
    for (slab, rows), part in views.items():
        held = pool.slabs[slab][:, rows[0] : rows[0] + len(rows)]
        starts = [[pool.places[numbers[index]].start for index in part] for numbers in table]
        found += _of_slab(pool, held, part, starts, single=single is not None)
    if single and apart:
        found += _of_rows_that_parted(pool, table, apart, single)
    else:
        found += [_copier(pool, table, index) for index in apart]
    return sorted(found, key=lambda reader: reader.start)


def _copier(pool: Pool, table: Table, index: int, equal: int = 0) -> Copier:
    """Of a block of each row, without its first `equal` columns."""
    slots = [pool.slots(numbers[index]) for numbers in table]
    size = pool.block - equal
    return Copier(index * pool.block + equal, [x.narrow(3, equal, size) for x in slots])


def _of_rows_that_parted(
    pool: Pool, table: Table, indices: list[int], held: Held
) -> Sequence[Reader]:
    """Readers of blocks that differ by row.

    Rows that parted a few columns ago read one block for those before, and copies of the others.
    Otherwise by the numbers read and written: of a column that all rows read keys, values, and
    about six times a score per row; of one that is copied keys and values of each row, read,
    written and read again.
    """
    index, equal = divmod(held.equal, pool.block)
    end = min(held.length, (indices[-1] + 1) * pool.block)
    if equal and indices == [index] and SHORT * (end - held.equal) <= pool.block:
        block = pool.slots(table[0][index]).narrow(3, 0, equal)
        return [Run(index * pool.block, block, True), _copier(pool, table, index, equal)]
    num_rows, head_dim = len(table), pool.slabs[0].shape[-1]
    union = _of_all_rows(pool, table, indices)
    read = sum(reader.made.k.shape[2] for reader in union) * (2 * head_dim + 6 * num_rows)
    copied = (end - indices[0] * pool.block) * 3 * num_rows * 2 * head_dim
    return union if read < copied else [_copier(pool, table, each) for each in indices]


def _of_slab(
    pool: Pool, held: Tensor, indices: list[int], starts: list[list[int]], *, single: bool
) -> Sequence[Reader]:
    """Readers of blocks in held (2, B, H, S, d), or (2, 1, H, S, d) if all rows share them, which
    begin at the slots starts[row][i]."""
    shared = held.shape[1] < len(starts)
    runs: list[list[int]] = []  # numbers of blocks in `indices`
    alike = all(row == starts[0] for row in starts)
    for i in range(len(indices) if alike else 0):
        follows = i and indices[i] == indices[i - 1] + 1
        if follows and starts[0][i] == starts[0][i - 1] + pool.block:
            runs[-1].append(i)
        else:
            runs.append([i])
    first = min(map(min, starts))
    span = max(map(max, starts)) + pool.block - first
    if single and len(runs) != 1 and span <= READ * len(indices) * pool.block:
        columns = torch.full((1 if alike else len(starts), span), -1)
        for row, slots in zip(columns, starts, strict=False):
            for index, start in zip(indices, slots, strict=True):
                row[start - first : start - first + pool.block] = pool.columns(index)
        k, v = held.narrow(3, first, span)
        name = (tuple(indices), *map(tuple, starts))
        columns = (columns[0] if alike else columns).to(held.device)
        made = ScatteredSegment(k, v, columns, name, shared=shared)
        return [Scattered(indices[0] * pool.block, made)]
    if not alike:
        rows = held.expand(-1, len(starts), -1, -1, -1).split(1, 1)  # (2, 1, H, S, d) each
        return [
            Copier(
                index * pool.block,
                [
                    row.narrow(3, slots[i], pool.block)
                    for row, slots in zip(rows, starts, strict=True)
                ],
            )
            for i, index in enumerate(indices)
        ]
    return [
        Run(
            indices[run[0]] * pool.block,
            held.narrow(3, starts[0][run[0]], len(run) * pool.block),
            shared,
        )
        for run in runs
    ]


def _of_all_rows(pool: Pool, table: Table, indices: list[int]) -> Sequence[Scattered]:
    """Readers of the blocks of all rows, each block once."""
    used: dict[tuple[int, int], dict[int, list[tuple[int, int]]]]
    used = defaultdict(lambda: defaultdict(list))
    for row, numbers in enumerate(table):
        for index in indices:
            slab, slab_row, start = pool.places[numbers[index]]
            used[slab, slab_row][start].append((row, index))
    made: list[Scattered] = []
    for (slab, slab_row), found in used.items():
        span = range(min(found), max(found) + pool.block)
        columns = torch.full((len(table), len(span)), -1)
        for start, users in found.items():
            part = columns.narrow(1, start - span.start, pool.block)
            for row, index in users:
                part[row] = pool.columns(index)
        k, v = pool.slabs[slab][:, slab_row : slab_row + 1].narrow(3, span.start, len(span))
        name = (slab, slab_row, *((start, *users) for start, users in found.items()))
        segment = ScatteredSegment(k, v, columns.to(k.device), name, shared=True)
        made.append(Scattered(indices[0] * pool.block, segment))
    return made
