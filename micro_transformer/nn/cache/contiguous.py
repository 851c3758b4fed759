"""One block of memory a layer, taken at the start."""

from collections.abc import Iterable

import torch
from torch import Tensor

from micro_transformer.nn.cache.base import CacheLayer, CacheSpec


class Contiguous(CacheLayer):
    """(B, H, max_len, d) for keys and for values; appending copies only what is new."""

    def __init__(self, spec: CacheSpec):
        super().__init__(spec)
        shape = (2, spec.batch, spec.num_heads, spec.max_len, spec.head_dim)
        self._kv = torch.empty(shape, dtype=spec.dtype, device=spec.device)
        self._k_pos: Tensor | None = None
        self._length = 0

    def append(self, k: Tensor, v: Tensor, pos: Tensor) -> None:
        length = self._length + k.shape[2]
        if length > self.spec.max_len:
            raise ValueError(f"{length} tokens do not fit a cache of max_len={self.spec.max_len}")
        self._kv[0, :, :, self._length : length] = k
        self._kv[1, :, :, self._length : length] = v
        # The first positions are kept as they are, so that all layers share one mask.
        self._k_pos = pos if self._k_pos is None else torch.cat((self._k_pos, pos), -1)
        self._length = length

    def segments(self) -> Iterable[tuple[Tensor, Tensor, Tensor]]:
        assert self._k_pos is not None, "append comes first"
        k, v = self._held().unbind()
        return [(k, v, self._k_pos)]

    def reorder(self, rows: Tensor) -> None:
        if len(rows) == self._kv.shape[1]:
            held = self._held()
            held.copy_(held[:, rows])
        else:
            self._kv = self._kv[:, rows]
        if self._k_pos is not None and self._k_pos.ndim == 2:
            self._k_pos = self._k_pos[rows]

    def nbytes(self) -> int:
        return self._kv.untyped_storage().nbytes()

    def _held(self) -> Tensor:
        return self._kv.narrow(3, 0, self._length)
