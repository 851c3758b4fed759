"""Sliding-window cache: the last keys only."""

from collections.abc import Sequence

from torch import Tensor

from micro_transformer.config.knobs import Count
from micro_transformer.nn.cache.base import AS_IS, CacheLayer, CacheSpec, QueryView, Segment
from micro_transformer.nn.cache.ring_buffer import Ring
from micro_transformer.nn.visibility import Wanted, Window


class LastKeys(Window, QueryView):
    """A query sees the last `width` keys, its own included."""


class Sliding(CacheLayer):
    """A query sees the last `window` keys, its own included, at true positions; others are dropped.

    Outputs equal those under the mask of conf/pattern/sliding, whatever the net was trained with
    (Beltagy et al., 2020; Jiang et al., 2023). Old keys are overwritten after the forward pass, so
    every query of a long prompt chunk has its full window.
    """

    exact = False
    segmented = True

    def __init__(self, spec: CacheSpec, *, window: Count):
        super().__init__(spec)
        self._view = self.visibility = LastKeys(window)
        self.reset()

    def reset(self) -> None:
        self._ring = Ring(self.spec, min(self._view.width, self.spec.max_len))
        self._passing: list[Segment] = []

    def append(self, k: Tensor, v: Tensor, pos: Tensor) -> None:
        if k.shape[2] == 1:  # it overwrites the one key that its query cannot see
            self._ring.write(k, v)
        else:
            self._passing = [Segment(self._ring.stop, k, v, self._view)]

    def segments(self, wanted: Wanted) -> Sequence[Segment]:
        return self._segments(wanted.columns.start)

    def _segments(self, first: int) -> list[Segment]:
        view = self._view if self._passing else AS_IS
        return [*(Segment(*piece, view) for piece in self._ring.pieces(first)), *self._passing]

    def end_forward(self) -> None:
        for segment in self._passing:
            self._ring.write(segment.k, segment.v)
        self._passing = []

    def reorder(self, rows: Tensor) -> None:
        self._ring.reorder(rows)

    def nbytes(self) -> int:
        passing = sum(s.k.nbytes + s.v.nbytes for s in self._passing)
        return self._ring.nbytes() + passing

    def predicted_nbytes(self, tokens: int) -> int:
        return min(self._view.width, self.spec.max_len) * self.token_nbytes()

    def used_nbytes(self) -> int:
        return sum(s.k.nbytes + s.v.nbytes for s in self._segments(0))
