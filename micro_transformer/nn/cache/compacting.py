"""Base of caches that keep recent tokens unchanged and compress or offload older ones."""

from collections.abc import Sequence

from torch import Tensor

from micro_transformer.nn.cache.base import CacheLayer, CacheSpec, Segment
from micro_transformer.nn.cache.recent_buffer import Tail
from micro_transformer.nn.visibility import Wanted

# B batch, H heads, d head_dim; column: index of a token in its row, pads included


class CompactingCache(CacheLayer):
    """A buffer of `newest` recent columns; when it is full, its `portion` oldest are packed.

    A chunk that would fill the buffer is written after the forward pass, so its own queries see its
    keys unpacked.
    """

    abstract = True
    segmented = True

    def __init__(self, spec: CacheSpec, newest: int, portion: int):
        super().__init__(spec)
        self.newest, self.portion = newest, portion
        self.reset()

    def reset(self) -> None:
        self._tail = Tail(self.spec, self.newest)
        self._passing: list[Segment] = []

    def pack(self, k: Tensor, v: Tensor) -> None:
        """Packs the next k, v (B, H, portion, d); they are views of a buffer that is reused."""
        raise NotImplementedError

    def packed(self, wanted: Wanted) -> list[Segment]:
        """Wanted packed segments; reading k or v of one may overwrite another's."""
        raise NotImplementedError

    def append(self, k: Tensor, v: Tensor, pos: Tensor) -> None:
        if self._tail.takes(k.shape[2]):
            self._write(k, v)
        else:
            self._passing = [Segment(self._tail.start + self._tail.length, k, v)]

    def segments(self, wanted: Wanted) -> Sequence[Segment]:
        tail = [Segment(self._tail.start, *self._tail.columns())] if self._tail.length else []
        return [*self.packed(wanted), *tail, *self._passing]

    def end_forward(self) -> None:
        for segment in self._passing:
            self._write(segment.k, segment.v)
        self._passing = []

    def reorder(self, rows: Tensor) -> None:
        self._tail.reorder(rows)

    def packed_tokens(self, tokens: int) -> int:
        """Packed ones of `tokens` tokens: as few portions as leave the buffer a free slot."""
        return max(0, -(-(tokens - self.newest + 1) // self.portion)) * self.portion

    def _write(self, k: Tensor, v: Tensor) -> None:
        for oldest in self._tail.write(k, v, self.portion):
            self.pack(*oldest)
