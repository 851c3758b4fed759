"""Caches that keep the newest columns as they came and put older ones elsewhere."""

from collections.abc import Sequence

from torch import Tensor

from micro_transformer.nn.cache.base import CacheLayer, CacheSpec, Segment
from micro_transformer.nn.cache.recent_buffer import Tail


class CompactingCache(CacheLayer):
    """`newest` columns at most stay; when they are so many, the `portion` oldest are packed.

    Packing comes after the queries of a forward have attended: a chunk sees itself as it came.
    """

    abstract = True

    def __init__(self, spec: CacheSpec, newest: int, portion: int):
        super().__init__(spec)
        self.newest, self.portion = newest, portion
        self.reset()

    def reset(self) -> None:
        self._tail = Tail(self.spec, self.newest)
        self._passing: list[Segment] = []

    def pack(self, k: Tensor, v: Tensor) -> None:
        """k, v (B, H, portion, d) come after what is packed; they are overwritten later."""
        raise NotImplementedError

    def packed(self, first: int) -> list[Segment]:
        """What is packed, of columns from `first` on; k or v of one may end those of another."""
        raise NotImplementedError

    def append(self, k: Tensor, v: Tensor, pos: Tensor) -> None:
        if self._tail.takes(k.shape[2]):
            self._write(k, v)
        else:
            self._passing = [Segment(self._tail.start + self._tail.length, k, v)]

    def segments(self, first: int) -> Sequence[Segment]:
        tail = [Segment(self._tail.start, *self._tail.columns())] if self._tail.length else []
        return [*self.packed(first), *tail, *self._passing]

    def end_forward(self) -> None:
        for segment in self._passing:
            self._write(segment.k, segment.v)
        self._passing = []

    def reorder(self, rows: Tensor) -> None:
        self._tail.reorder(rows)

    def packed_tokens(self, tokens: int) -> int:
        """How many of so many tokens are packed: as few portions as leave the tail a free slot."""
        return max(0, -(-(tokens - self.newest + 1) // self.portion)) * self.portion

    def _write(self, k: Tensor, v: Tensor) -> None:
        for oldest in self._tail.write(k, v, self.portion):
            self.pack(*oldest)
