"""The seam of key-value caches. A cache is passed into a forward, never stored in a module."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor


class CacheSpec(NamedTuple):
    """What a layer must be able to hold."""

    batch: int
    num_heads: int
    head_dim: int
    max_len: int  # tokens
    dtype: torch.dtype
    device: torch.device


class CacheLayer:
    """Keys and values of one attention layer, with the positions of the keys."""

    stores = True  # False: holds nothing between calls, so each call must bring the whole sequence
    rotates_on_read = False  # True: keys come in and go out before rotation

    def __init__(self, spec: CacheSpec):
        self.spec = spec

    def append(self, k: Tensor, v: Tensor, pos: Tensor) -> None:
        """k, v (B, H, T, d) at pos (T,) or (B, T) come after what is held."""
        raise NotImplementedError

    def segments(self) -> Iterable[tuple[Tensor, Tensor, Tensor]]:
        """(k, v, k_pos) of all that is held, in order, in one piece or several."""
        raise NotImplementedError

    def reorder(self, rows: Tensor) -> None:
        """Row i holds what row rows[i] held; fewer rows are the ones left."""
        raise NotImplementedError

    def nbytes(self) -> int:
        """Bytes of the storages that are held."""
        raise NotImplementedError


class Cache:
    """The layers of one decoding, and how far it has come."""

    def __init__(self, layers: list[CacheLayer]):
        self.layers = layers
        self.stores = all(layer.stores for layer in layers)
        self.length = 0  # tokens held in each row, pads included
        self._next: Tensor | None = None  # (B, 1) next position, once rows differ

    @classmethod
    def make(
        cls, make_layer: Callable[[CacheSpec], CacheLayer], spec: CacheSpec, num_layers: int
    ) -> "Cache":
        """An empty cache."""
        return cls([make_layer(spec) for _ in range(num_layers)])

    @property
    def plain(self) -> bool:
        """Positions count 0, 1, 2, ... in every row; there are no pads."""
        return self._next is None

    def layer(self, index: int) -> CacheLayer:
        """The layer of block `index`."""
        return self.layers[index]

    def positions(self, num_tokens: int, device: torch.device) -> Tensor:
        """Those of the next tokens: (T,), or (B, T) once rows differ."""
        if self._next is None:
            return torch.arange(self.length, self.length + num_tokens, device=device)
        return self._next + torch.arange(num_tokens, device=device)

    def advance(self, pos: Tensor) -> None:
        """The tokens at pos have been appended to every layer."""
        if not self.stores:
            return
        self.length += pos.shape[-1]
        if pos.ndim == 2:
            last = pos.amax(-1, keepdim=True)
            self._next = 1 + (last if self._next is None else torch.maximum(last, self._next - 1))

    def reorder(self, rows: Tensor) -> None:
        """Row i goes on from row rows[i], in every layer."""
        for layer in self.layers:
            layer.reorder(rows)
        if self._next is not None:
            self._next = self._next[rows]

    def nbytes(self) -> int:
        """Bytes held by all layers."""
        return sum(layer.nbytes() for layer in self.layers)
