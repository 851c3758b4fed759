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
READ = 2  # blocks read per block of a row, up to which rows read those of all rows


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


def readers(pool: Pool, table: Table, indices: list[int], *, single: bool) -> Sequence[Reader]:
    """Readers of the blocks with these indices of all rows, by first column.

    single: there is one query per row, so the order of the keys is free.
    """
    apart: list[int] = []
    together: dict[tuple[int, tuple[int, ...]], list[int]] = defaultdict(list)
    for index in indices:
        places = [pool.places[numbers[index]] for numbers in table]
        rows = tuple(place.row for place in places)
        one_slab = len({place.slab for place in places}) == 1
        if one_slab and (len({*rows}) == 1 or rows == tuple(range(rows[0], rows[0] + len(rows)))):
            together[places[0].slab, rows].append(index)
        else:
            apart.append(index)
    if apart and single:
        union = _of_all_rows(pool, table, indices)
        if union is not None:
            return union
    found: list[Reader] = [
        Copier(index * pool.block, [pool.slots(numbers[index]) for numbers in table])
        for index in apart
    ]
    for (slab, rows), part in together.items():
        held = pool.slabs[slab][:, rows[0] : rows[0] + len({*rows})]
        starts = [[pool.places[numbers[index]].start for index in part] for numbers in table]
        found += _of_slab(pool, held, part, starts, single=single)
    return sorted(found, key=lambda reader: reader.start)


def _of_slab(
    pool: Pool, held: Tensor, indices: list[int], starts: list[list[int]], *, single: bool
) -> Sequence[Reader]:
    """Readers of blocks in held (2, B or 1, H, S, d), which begin at the slots starts[row][i]."""
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


def _of_all_rows(pool: Pool, table: Table, indices: list[int]) -> Sequence[Reader] | None:
    """Readers of the blocks of all rows, each block once; None: they are too many."""
    used: dict[tuple[int, int], dict[int, list[tuple[int, int]]]]
    used = defaultdict(lambda: defaultdict(list))
    for row, numbers in enumerate(table):
        for index in indices:
            slab, slab_row, start = pool.places[numbers[index]]
            used[slab, slab_row][start].append((row, index))
    spans = {key: range(min(found), max(found) + pool.block) for key, found in used.items()}
    if sum(map(len, spans.values())) > READ * len(indices) * pool.block:
        return None
    made: list[Reader] = []
    for (slab, slab_row), found in used.items():
        span = spans[slab, slab_row]
        columns = torch.full((len(table), len(span)), -1)
        for start, users in found.items():
            part = columns.narrow(1, start - span.start, pool.block)
            for row, index in users:
                part[row] = pool.columns(index)
        k, v = pool.slabs[slab][:, slab_row : slab_row + 1].narrow(3, span.start, len(span))
        name = (slab, slab_row, *((start, *users) for start, users in found.items()))
        segment = ScatteredSegment(k, v, columns.to(k.device), name, shared=True)
        made.append(Scattered(0, segment))
    return made
