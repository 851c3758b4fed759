"""No cache: everything is computed again at every step."""

from collections.abc import Iterable

from torch import Tensor

from micro_transformer.nn.cache.base import CacheLayer, CacheSpec


class NoCache(CacheLayer):
    """Passes keys and values through, and keeps none."""

    stores = False

    def __init__(self, spec: CacheSpec):
        super().__init__(spec)
        self._passing: list[tuple[Tensor, Tensor, Tensor]] = []

    def append(self, k: Tensor, v: Tensor, pos: Tensor) -> None:
        self._passing = [(k, v, pos)]

    def segments(self) -> Iterable[tuple[Tensor, Tensor, Tensor]]:
        passing, self._passing = self._passing, []
        return passing

    def reorder(self, rows: Tensor) -> None:
        """Nothing is held."""

    def nbytes(self) -> int:
        return 0
