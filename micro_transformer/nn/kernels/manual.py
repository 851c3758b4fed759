"""Attention step by step: scores and weights can be read by hooks."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from micro_transformer.config.knobs import Rate
from micro_transformer.nn.kernels.base import Kernel, without_dead
from micro_transformer.nn.masks import Mask

# B batch, H heads, Tq queries, Tk keys, d head_dim


class Manual(Kernel):
    """softmax(q·k / sqrt(d)) v as in Vaswani et al. (2017), eq. 1; softmax in float32 or wider.

    Scores and weights (B, H, Tq, Tk) pass through the identity modules `scores` and `weights`,
    where a forward hook may read or replace them.
    """

    gives_weights = True

    def __init__(self, *, dropout: Rate = 0.0):
        super().__init__()
        self.dropout = dropout
        self.scores = nn.Identity()
        self.weights = nn.Identity()

    def forward(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Mask, bias: Tensor | None, scale: float
    ) -> Tensor:
        wide = torch.promote_types(q.dtype, torch.float32)
        scores = (q @ k.mT).to(wide) * scale  # (B, H, Tq, Tk)
        if bias is not None:
            scores = scores + bias
        if not mask.sees_all:
            scores = scores.masked_fill(mask.hidden, float("-inf"))
        weights = self.weights(without_dead(self.scores(scores).softmax(-1), mask))
        return F.dropout(weights, self.dropout, self.training).to(v.dtype) @ v  # (B, H, Tq, d)
