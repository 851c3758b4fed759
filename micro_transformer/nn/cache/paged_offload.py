"""Paged cache that offloads old blocks to CPU memory or a file."""

import torch
from torch import Tensor

from micro_transformer.config.knobs import Count
from micro_transformer.nn.cache.base import AS_IS, CacheSpec, Segment, Traffic
from micro_transformer.nn.cache.compacting import CompactingCache
from micro_transformer.nn.cache.offload_storage import FileTier, HostTier
from micro_transformer.nn.visibility import Wanted

# B batch, H heads, n tokens of a segment, d head_dim


class OffloadPool:
    """Offloaded blocks of `size` columns, with a buffer on the device for one of them."""

    def __init__(self, spec: CacheSpec, size: int):
        self.spec, self.size = spec, size
        self.tier = HostTier() if spec.device.type == "cuda" else FileTier()
        self.moved = Traffic()
        self.make_room(spec.batch)

    def make_room(self, batch: int) -> None:
        """The buffer on the device fits a block of `batch` rows."""
        spec = self.spec
        shape = (2, batch, spec.num_heads, self.size, spec.head_dim)
        self.room = torch.empty(shape, dtype=spec.dtype, device=spec.device)
        # Indices of the blocks whose keys and whose values are in the buffer.
        self._there: list[int | None] = [None, None]

    def send(self, k: Tensor, v: Tensor) -> None:
        """Offloads k, v (B, H, size, d) as the next block."""
        self.tier.put(torch.stack((k, v)))
        self._count(2, 2 * k.nbytes)

    def bring(self, index: int, batch: int, which: int) -> Tensor:
        """Keys (which=0) or values (1) of a block, (batch, H, size, d), until the next call."""
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
    """An offloaded block; access to k or v copies it to the device.

    batch: rows in the offloaded block. rows (B,): which of them each current row reads, set by
    reorder; None: the same ones.
    """

    def __init__(self, depot: OffloadPool, index: int, batch: int):
        self.depot, self.index, self.batch, self.view = depot, index, batch, AS_IS
        self.start, self.stop = index * depot.size, (index + 1) * depot.size
        self.rows: Tensor | None = None

    @property
    def k(self) -> Tensor:  # type: ignore[override]
        """(B, H, n, d), valid until the keys of another block are read."""
        return self._bring(0)

    @property
    def v(self) -> Tensor:  # type: ignore[override]
        """(B, H, n, d), valid until the values of another block are read."""
        return self._bring(1)

    def reorder(self, rows: Tensor) -> None:
        """New row i is old row rows[i]; no data is copied."""
        self.rows = rows if self.rows is None else self.rows[rows]

    def _bring(self, which: int) -> Tensor:
        got = self.depot.bring(self.index, self.batch, which)
        return got if self.rows is None else got[self.rows]


class PagedOffload(CompactingCache):
    """Up to `hot` recent blocks on the device; when they are full, the oldest is offloaded.

    From a GPU it goes to pinned CPU memory, otherwise to a temporary file. Each forward pass copies
    the blocks that its queries may see, one at a time, into a buffer for one block, so the memory
    on the device does not grow with the length of the text.
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

    def packed(self, wanted: Wanted) -> list[Segment]:
        return [self._away[n] for n in wanted.blocks(self.portion) if n < len(self._away)]

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
        return sum(held.nbytes for held in self._tail.columns())

    def traffic(self) -> Traffic:
        moved = self._depot.moved
        moved.host_bytes, moved.file_bytes = self._depot.tier.nbytes()
        return moved
