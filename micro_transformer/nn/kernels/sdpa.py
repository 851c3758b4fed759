"""Attention by torch's fused kernel: no T x T mask where it is causal."""

import torch
import torch.nn.functional as F
from torch import Tensor

from micro_transformer.config.knobs import Rate
from micro_transformer.nn.kernels.base import Kernel, without_dead
from micro_transformer.nn.masks import Mask

# B batch, H heads, Tq queries, Tk keys


class Sdpa(Kernel):
    """torch.nn.functional.scaled_dot_product_attention (Dao, 2023, on GPUs in half precision).

    is_causal aligns the triangle to the top left, so it is used for square masks only, and never
    together with a mask tensor. Fully masked rows are set to 0 here, as torch versions differ.
    """

    def __init__(self, *, dropout: Rate = 0.0):
        super().__init__()
        self.dropout = dropout

    def forward(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Mask, bias: Tensor | None, scale: float
    ) -> Tensor:
        dropout = self.dropout if self.training else 0.0
        if bias is None and (mask.sees_all or mask.pure_causal):
            return F.scaled_dot_product_attention(
                q, k, v, dropout_p=dropout, is_causal=not mask.sees_all, scale=scale
            )
        wide = torch.promote_types(q.dtype, torch.float32) if q.device.type == "cpu" else q.dtype
        if bias is None:
            added = ~mask.hidden
        elif mask.sees_all:
            added = bias.to(wide)
        else:
            added = bias.to(wide).masked_fill(mask.hidden, float("-inf"))
        added = added.view((1,) * (4 - added.ndim) + added.shape)  # (1 or B, 1 or H, Tq, Tk)
        out = F.scaled_dot_product_attention(q, k, v, added, dropout_p=dropout, scale=scale)
        return without_dead(out, mask)
