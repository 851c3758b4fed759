"""StreamingLLM: a cache of the first keys and the last ones."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from micro_transformer.config.knobs import Count
from micro_transformer.nn.cache.base import AS_IS, CacheLayer, CacheSpec, QueryView, Segment
from micro_transformer.nn.cache.ring_buffer import Ring
from micro_transformer.nn.visibility import ALL, NONE, SOME, Coverage, Wanted, Window


@dataclass(frozen=True)
class Sinks(QueryView):
    """The first `sinks` keys, at distances within the cache rather than in the text.

    A query's position is its index in the cache, at most sinks + window - 1.
    """

    sinks: int
    window: int
    relative = False

    def q_pos(self, pos: Tensor) -> Tensor:
        return pos.clamp(max=self._last)

    def columns(self, q: range) -> range | None:
        if q[-1] <= self._last:
            return q
        return range(self._last, self._last + 1) if len(q) == 1 else None

    def visible(self, b: Tensor, h: Tensor, q_pos: Tensor, k_pos: Tensor) -> Tensor:
        return k_pos < self.sinks

    def coverage(self, q: range, k: range) -> Coverage:
        if k[0] >= self.sinks:
            return NONE
        return ALL if k[-1] < self.sinks else SOME

    @property
    def _last(self) -> int:
        return self.sinks + self.window - 1


@dataclass(frozen=True)
class Recent(Window, QueryView):
    """A query sees the last `width` keys, its own included, except the sinks."""

    sinks: int
    relative = False

    def visible(self, b: Tensor, h: Tensor, q_pos: Tensor, k_pos: Tensor) -> Tensor:
        return (k_pos >= self.sinks) & super().visible(b, h, q_pos, k_pos)

    def coverage(self, q: range, k: range) -> Coverage:
        if k[-1] < self.sinks:
            return NONE
        return min(SOME if k[0] < self.sinks else ALL, super().coverage(q, k))


class Sink(CacheLayer):
    """StreamingLLM: the first `sinks` keys of a row and the last `window` (Xiao et al., 2023).

    Positions are indices in the cache, as if the evicted tokens had never existed. The authors
    cache unrotated keys and rotate all of them at every step. A relative encoding depends on
    distances only, so here each query is rotated twice: by its true position for the last keys,
    whose distances are unchanged, and by its index in the cache for the sinks. This also holds for
    a prompt in one chunk. Absolute encodings (learned, sinusoidal) keep true positions.
    """

    exact = False
    segmented = True
    relations = (("sinks", "at_most", "window"),)

    def __init__(self, spec: CacheSpec, *, sinks: Count, window: Count):
        super().__init__(spec)
        self._sinks, self._recent = Sinks(sinks, window), Recent(window, sinks)
        self.reset()

    def reset(self) -> None:
        spec = self.spec
        self._ring = Ring(spec, min(self._recent.width, spec.max_len))
        empty = torch.empty(spec.batch, spec.num_heads, 0, spec.head_dim).to(spec.device)
        self._first = Segment(0, empty.to(spec.dtype), empty.to(spec.dtype), self._sinks)
        self._padded = False  # left padding: sink columns also contain pads or other tokens
        self._filled = False  # the sinks of every row are cached
        self._passing: list[Segment] = []

    def append(self, k: Tensor, v: Tensor, pos: Tensor) -> None:
        taken = 0 if self._filled else self._take_sinks(k, v, pos)
        k, v = k[:, :, taken:], v[:, :, taken:]
        if k.shape[2] == 1 and not taken:
            self._ring.write(k, v)
        elif k.shape[2]:
            self._passing = [Segment(self._ring.stop, k, v, self._recent)]

    def _take_sinks(self, k: Tensor, v: Tensor, pos: Tensor) -> int:
        """Number of leading columns moved to the sinks: those with a pad or sink in any row."""
        lowest = pos if pos.ndim == 1 else pos.amin(0)
        taken = int((lowest < self._sinks.sinks).sum())
        first = self._first
        held_k, held_v = (
            torch.cat((held, new[:, :, :taken]), 2) for held, new in ((first.k, k), (first.v, v))
        )
        self._first = Segment(0, held_k, held_v, self._sinks)
        self._padded |= pos.ndim == 2
        self._filled = taken < pos.shape[-1]
        self._ring.begin(self._first.stop)
        return taken

    def segments(self, wanted: Wanted) -> Sequence[Segment]:
        view = self._recent if self._passing else AS_IS
        recent = [Segment(*piece, view) for piece in self._ring.pieces(0)] + self._passing
        sinks = self._first
        if self._padded:
            recent.insert(0, Segment(0, sinks.k, sinks.v, self._recent))
        return [sinks, *recent]

    def end_forward(self) -> None:
        for segment in self._passing:
            self._ring.write(segment.k, segment.v)
        self._passing = []

    def reorder(self, rows: Tensor) -> None:
        self._ring.reorder(rows)
        self._first = Segment(0, self._first.k[rows], self._first.v[rows], self._sinks)

    def nbytes(self) -> int:
        segments = [self._first, *self._passing]
        return self._ring.nbytes() + sum(s.k.nbytes + s.v.nbytes for s in segments)

    def predicted_nbytes(self, tokens: int) -> int:
        kept = min(self._recent.width, self.spec.max_len) + min(self._sinks.sinks, tokens)
        return kept * self.token_nbytes()

    def used_nbytes(self) -> int:
        pieces = [(s.k, s.v) for s in (self._first, *self._passing)]
        pieces += [(k, v) for _, k, v in self._ring.pieces(0)]
        return sum(k.nbytes + v.nbytes for k, v in pieces)
