"""Attention step by step: scores and weights can be read by hooks."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from micro_transformer.config.knobs import Rate
from micro_transformer.nn.cache.base import Segment
from micro_transformer.nn.kernels.base import Kernel, mask_scores, weigh
from micro_transformer.nn.masks import Mask
from micro_transformer.nn.online_softmax import Piece, product

# B batch, H heads, Tq queries, Tk keys, n keys of a segment, d head_dim


class Manual(Kernel):
    """softmax(q·k / sqrt(d)) v as in Vaswani et al. (2017), eq. 1; softmax in float32 or wider.

    Scores and weights (B, H, Tq, Tk) pass through the identity modules `scores` and `weights`,
    where a forward hook may read or replace them; those of several segments side by side.
    """

    gives_weights = True
    takes_segments = True

    def __init__(self, *, dropout: Rate = 0.0):
        super().__init__()
        self.dropout = dropout
        self.scores = nn.Identity()
        self.weights = nn.Identity()

    def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Mask, scale: float) -> Tensor:
        return self.over_segments([Piece(q, Segment(0, k, v), mask)], scale)

    def over_segments(self, pieces: Sequence[Piece], scale: float) -> Tensor:
        products = [product(q, keys.k.mT) for q, keys, _ in pieces]  # (B, H, Tq, n) each
        scores = products[0] if len(products) == 1 else torch.cat(products, -1)
        dtype, wide = scores.dtype, torch.promote_types(scores.dtype, torch.float32)
        scores = scores.to(wide) * scale
        dead = mask_scores(scores, pieces)
        weights = self.scores(scores).softmax(-1)
        weights = self.weights(weights if dead is None else weights.masked_fill(dead, 0.0))
        return weigh(F.dropout(weights, self.dropout, self.training).to(dtype), pieces)
