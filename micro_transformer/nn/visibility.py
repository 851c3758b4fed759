"""Which keys a query sees: as a tensor of booleans, and as an answer for whole ranges."""

import bisect
import enum
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

# B batch, H heads, T tokens (Tq queries, Tk keys)


class Coverage(enum.IntEnum):
    """How many of the pairs of a range of queries and a range of keys are visible."""

    NONE = 0
    SOME = 1
    ALL = 2


NONE, SOME, ALL = Coverage


class Visibility:
    """Which keys each query sees, by their positions. The position of a pad is -1."""

    relative = False  # depends on the difference of the positions only
    block: int | None = None  # tokens per block, of one that decides by blocks

    def visible(self, b: Tensor, h: Tensor, q_pos: Tensor, k_pos: Tensor) -> Tensor:
        """True where a query sees a key; index tensors broadcast to (B, H, Tq, Tk), as does it."""
        raise NotImplementedError

    def coverage(self, q: range, k: range) -> Coverage:
        """NONE: no query at the positions q sees a key at k; ALL: each sees all; SOME: unknown."""
        return SOME

    def within(self, q: range, k: range) -> "Visibility":
        """The same visibility for these positions, without the parts that hide nothing there."""
        return EVERYTHING if self.coverage(q, k) is ALL else self

    def ranges(self, q: range, k: range) -> list[range]:
        """The parts of k that a query of q may see, in order; one key at least."""
        return [visible_range(self, q, k)]


@dataclass(frozen=True)
class Everything(Visibility):
    """Every query sees every key."""

    relative = True

    def visible(self, b: Tensor, h: Tensor, q_pos: Tensor, k_pos: Tensor) -> Tensor:
        return torch.ones((), dtype=torch.bool, device=k_pos.device)

    def coverage(self, q: range, k: range) -> Coverage:
        return ALL


@dataclass(frozen=True)
class Causal(Visibility):
    """A query sees the keys up to its own position."""

    relative = True

    def visible(self, b: Tensor, h: Tensor, q_pos: Tensor, k_pos: Tensor) -> Tensor:
        return k_pos <= q_pos

    def coverage(self, q: range, k: range) -> Coverage:
        if q[-1] < k[0]:
            return NONE
        return ALL if q[0] >= k[-1] else SOME


@dataclass(frozen=True)
class Window(Visibility):
    """A query sees no key that is `width` or more positions before it: i - j < width."""

    width: int
    relative = True

    def visible(self, b: Tensor, h: Tensor, q_pos: Tensor, k_pos: Tensor) -> Tensor:
        return k_pos > q_pos - self.width

    def coverage(self, q: range, k: range) -> Coverage:
        if q[0] - k[-1] >= self.width:
            return NONE
        return ALL if q[-1] - k[0] < self.width else SOME


class Selective(Visibility):
    """Keys where blocked (B, T) is True are visible to the query at their own position only."""

    def __init__(self, blocked: Tensor):
        self.blocked = blocked

    def visible(self, b: Tensor, h: Tensor, q_pos: Tensor, k_pos: Tensor) -> Tensor:
        return ~self.blocked[b, k_pos] | (q_pos == k_pos)


@dataclass(frozen=True)
class AllOf(Visibility):
    """A query sees the keys that it sees by all of the parts."""

    parts: tuple[Visibility, ...]

    @property
    def relative(self) -> bool:  # type: ignore[override]
        return all(part.relative for part in self.parts)

    @property
    def block(self) -> int | None:  # type: ignore[override]
        return next((part.block for part in self.parts if part.block), None)

    def visible(self, b: Tensor, h: Tensor, q_pos: Tensor, k_pos: Tensor) -> Tensor:
        allowed = self.parts[0].visible(b, h, q_pos, k_pos)
        for part in self.parts[1:]:
            allowed = allowed & part.visible(b, h, q_pos, k_pos)
        return allowed

    def coverage(self, q: range, k: range) -> Coverage:
        return min(part.coverage(q, k) for part in self.parts)

    def ranges(self, q: range, k: range) -> list[range]:
        by_blocks = [part for part in self.parts if part.block]
        if not by_blocks:
            return super().ranges(q, k)
        found = by_blocks[0].ranges(q, k)
        return [part for part in found if self.coverage(q, part) is not NONE] or [k[:1]]

    def within(self, q: range, k: range) -> Visibility:
        return _joined(part for part in self.parts if part.coverage(q, k) is not ALL)


@dataclass(frozen=True)
class Padded(Visibility):
    """`inner`, and no query sees a pad.

    `coverage` takes columns, as positions differ by row. Where `inner` depends on differences only,
    a NONE for the columns is one for the positions: pads are at an end of a row, so two tokens
    have the same distance in columns as in positions.
    """

    inner: Visibility

    def visible(self, b: Tensor, h: Tensor, q_pos: Tensor, k_pos: Tensor) -> Tensor:
        return self.inner.visible(b, h, q_pos, k_pos) & (k_pos >= 0)

    def coverage(self, q: range, k: range) -> Coverage:
        return min(SOME, self.inner.coverage(q, k)) if self.inner.relative else SOME


EVERYTHING, CAUSAL = Everything(), Causal()
ANYWHERE = range(2**62)  # all positions of all texts


def all_of(*parts: Visibility) -> Visibility:
    """The logical and of the parts, without those that hide nothing anywhere."""
    flat = [each for part in parts for each in (part.parts if isinstance(part, AllOf) else [part])]
    return _joined(part for part in flat if part.coverage(ANYWHERE, ANYWHERE) is not ALL)


def _joined(parts: Iterable[Visibility]) -> Visibility:
    parts = tuple(parts)
    if len(parts) > 1:
        return AllOf(parts)
    return parts[0] if parts else EVERYTHING


def visible_range(visibility: Visibility, q: range, k: range) -> range:
    """The keys from the first to the last that a query of q may see; one key at least."""

    def seen(part: range) -> bool:
        return visibility.coverage(q, part) is not NONE

    if visibility.coverage(q, k) is ALL:
        return k
    before = bisect.bisect_left(range(len(k)), True, key=lambda m: seen(k[: m + 1]))
    if before == len(k):
        return k[:1]
    rest = k[before:]
    last = len(rest) - 1
    after = bisect.bisect_left(range(last), True, key=lambda m: seen(rest[last - m :]))
    return rest[: last + 1 - after]


class Wanted:
    """Which columns the queries of a forward pass may see, for all layers of a cache."""

    def __init__(self, visibility: Visibility, q: range, k: range):
        self._visibility, self._q, self._k = visibility, q, k
        self.columns = visible_range(visibility, q, k)
        self._blocks: dict[int, list[int]] = {}

    @property
    def num_queries(self) -> int:
        """Per row."""
        return len(self._q)

    @property
    def ranges(self) -> list[range]:
        """The columns without gaps that no query sees, where there is one query; merged."""
        if len(self._q) > 1:
            return [self.columns]
        found: list[range] = []
        for part in self._visibility.ranges(self._q, self.columns):
            if found and found[-1].stop == part.start:
                part = range(found.pop().start, part.stop)
            found.append(part)
        return found

    def blocks(self, size: int) -> list[int]:
        """Numbers of the blocks of `size` columns that hold a column of these, in order."""
        if size not in self._blocks:
            first, last = self.columns[0] // size, self.columns[-1] // size
            self._blocks[size] = [n for n in range(first, last + 1) if self._sees(n, size)]
        return self._blocks[size]

    def _sees(self, block: int, size: int) -> bool:
        columns = self._k[block * size : (block + 1) * size]
        return self._visibility.coverage(self._q, columns) is not NONE
