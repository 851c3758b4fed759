"""No cache: every step recomputes keys and values of all tokens."""

from collections.abc import Sequence

from torch import Tensor

from micro_transformer.nn.cache.base import CacheLayer, CacheSpec, Segment
from micro_transformer.nn.visibility import Wanted


class NoCache(CacheLayer):
    """Returns the appended keys and values once and keeps none."""

    stores = False

    def __init__(self, spec: CacheSpec):
        super().__init__(spec)
        self.reset()

    def reset(self) -> None:
        self._passing: list[Segment] = []

    def append(self, k: Tensor, v: Tensor, pos: Tensor) -> None:
        self._passing = [Segment(0, k, v)]

    def segments(self, wanted: Wanted) -> Sequence[Segment]:
        passing, self._passing = self._passing, []
        return passing

    def reorder(self, rows: Tensor) -> None:
        """No effect, as nothing is cached."""

    def nbytes(self) -> int:
        return 0

    def predicted_nbytes(self, tokens: int) -> int:
        return 0

    def used_nbytes(self) -> int:
        return 0
