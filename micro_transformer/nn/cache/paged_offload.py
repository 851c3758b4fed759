"""Old blocks on another tier."""

import torch
from torch import Tensor

from micro_transformer.config.knobs import Count
from micro_transformer.nn.cache.base import AS_IS, CacheSpec, Segment, Traffic
from micro_transformer.nn.cache.compacting import CompactingCache
from micro_transformer.nn.cache.offload_storage import FileTier, HostTier


class OffloadPool:
    """Blocks of `size` columns on another tier, and room on the device for one of them."""

    def __init__(self, spec: CacheSpec, size: int):
        self.spec, self.size = spec, size
        self.tier = HostTier() if spec.device.type == "cuda" else FileTier()
        self.moved = Traffic()
        self.make_room(spec.batch)

    def make_room(self, batch: int) -> None:
        """A block of so many rows can be brought back."""
        spec = self.spec
        shape = (2, batch, spec.num_heads, self.size, spec.head_dim)
        self.room = torch.empty(shape, dtype=spec.dtype, device=spec.device)
        self._there: list[int | None] = [None, None]  # whose keys, whose values

    def send(self, k: Tensor, v: Tensor) -> None:
        """k, v (B, H, size, d) are the next block."""
        self.tier.put(torch.stack((k, v)))
        self._count(2, 2 * k.nbytes)

    def bring(self, index: int, batch: int, which: int) -> Tensor:
        """Keys (0) or values (1) of a block of so many rows, until those of another are asked."""
        got = self.room[which, :batch]
        if self._there[which] != index:
            self.tier.get(index, which, got)
            self._there[which] = index
            self._count(1, got.nbytes)
        return got

    def _count(self, transfers: int, nbytes: int) -> None:
        self.moved.transfers += transfers
        self.moved.transferred_bytes += nbytes


class OffloadedSegment(Segment):
    """A block that lies elsewhere; its keys and values come back each time they are asked.

    batch: rows that it has there; rows (B,): which of them each row of the net goes on from.
    """

    def __init__(self, depot: OffloadPool, index: int, batch: int):
        self.depot, self.index, self.batch, self.view = depot, index, batch, AS_IS
        self.start, self.stop = index * depot.size, (index + 1) * depot.size
        self.rows: Tensor | None = None

    @property
    def k(self) -> Tensor:  # type: ignore[override]
        """(B, H, n, d), until the keys of another block are asked."""
        return self._bring(0)

    @property
    def v(self) -> Tensor:  # type: ignore[override]
        """(B, H, n, d), until the values of another block are asked."""
        return self._bring(1)

    def reorder(self, rows: Tensor) -> None:
        """Row i goes on from what row rows[i] was; nothing moves."""
        self.rows = rows if self.rows is None else self.rows[rows]

    def _bring(self, which: int) -> Tensor:
        got = self.depot.bring(self.index, self.batch, which)
        return got if self.rows is None else got[self.rows]


class PagedOffload(CompactingCache):
    """The last `hot` blocks at most stay; an older one leaves when it is full.

    From a GPU it goes to the CPU's pinned memory, else to a temporary file. Each forward brings
    back what its queries may see, into room for the keys and values of one block: attention runs
    through the blocks one at a time, so what is resident does not grow with the text.
    """

    def __init__(self, spec: CacheSpec, *, block: Count, hot: Count):
        super().__init__(spec, newest=hot * block, portion=block)

    def reset(self) -> None:
        super().reset()
        self._depot = OffloadPool(self.spec, self.portion)
        self._away: list[OffloadedSegment] = []

    def pack(self, k: Tensor, v: Tensor) -> None:
        self._away.append(OffloadedSegment(self._depot, len(self._away), len(k)))
        self._depot.send(k, v)

    def packed(self, first: int) -> list[Segment]:
        return list(self._away[first // self.portion :])

    def reorder(self, rows: Tensor) -> None:
        super().reorder(rows)
        for away in self._away:
            away.reorder(rows)
        if len(rows) > self._depot.room.shape[1]:
            self._depot.make_room(len(rows))

    def nbytes(self) -> int:
        passing = sum(s.k.nbytes + s.v.nbytes for s in self._passing)
        return self._tail.nbytes() + self._depot.room.nbytes + passing

    def predicted_nbytes(self, tokens: int) -> int:
        return (self.newest + self.portion) * self.token_nbytes()

    def used_nbytes(self) -> int:
        return self._tail.length * self.token_nbytes()

    def traffic(self) -> Traffic:
        moved = self._depot.moved
        moved.host_bytes, moved.file_bytes = self._depot.tier.nbytes()
        return moved
