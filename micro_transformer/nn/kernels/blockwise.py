"""Exact attention by blocks of queries and keys, without a T x T score matrix."""

import torch
from torch import Tensor

from micro_transformer.config.knobs import Count
from micro_transformer.nn.kernels.base import Kernel
from micro_transformer.nn.masks import Mask
from micro_transformer.nn.online_softmax import OnlineSoftmax, masked_scores


class Blockwise(Kernel):
    """Online softmax over blocks of keys (Milakov and Gimelshein, 2018; Dao et al., 2022).

    At most `block` x `block` scores per head exist at a time; blocks that are known to be fully
    masked are skipped.
    """

    def __init__(self, *, block: Count):
        super().__init__()
        self.block = block

    def forward(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Mask, bias: Tensor | None, scale: float
    ) -> Tensor:
        outs = [self._rows(q, k, v, mask, bias, scale, rows) for rows in self._blocks(q.shape[2])]
        return torch.cat(outs, 2).to(q.dtype)

    def _rows(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        mask: Mask,
        bias: Tensor | None,
        scale: float,
        rows: slice,
    ) -> Tensor:
        total = OnlineSoftmax()
        for keys in self._blocks(k.shape[2]):
            part = mask.part(rows, keys)
            if not part.sees_none:
                added = None if bias is None else bias[..., rows, keys]
                scores = masked_scores(q[:, :, rows], k[:, :, keys], part, added, scale)
                total.add(scores, v[:, :, keys])
        return total.result()

    def _blocks(self, length: int) -> list[slice]:
        return [slice(i, min(i + self.block, length)) for i in range(0, length, self.block)]
