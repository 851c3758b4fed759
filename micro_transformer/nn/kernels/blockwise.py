"""Exact attention by blocks of queries and keys, without a T x T score matrix."""

from collections.abc import Sequence

from torch import Tensor

from micro_transformer.config.knobs import Count
from micro_transformer.nn.cache.base import Segment
from micro_transformer.nn.kernels.base import Kernel
from micro_transformer.nn.masks import Mask
from micro_transformer.nn.online_softmax import Piece, attend_online


class Blockwise(Kernel):
    """Online softmax over blocks of keys (Milakov and Gimelshein, 2018; Dao et al., 2022).

    At most `block` x `block` scores per head exist at a time; blocks that are known to be fully
    masked are skipped.
    """

    takes_segments = True

    def __init__(self, *, block: Count):
        super().__init__()
        self.block = block

    def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Mask, scale: float) -> Tensor:
        return self.over_segments([Piece(q, Segment(0, k, v), mask)], scale)

    def over_segments(self, pieces: Sequence[Piece], scale: float) -> Tensor:
        return attend_online(pieces, scale, self.block, self.block)
