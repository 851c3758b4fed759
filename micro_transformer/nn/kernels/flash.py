"""Attention by the flash-attn package, on CUDA."""

from typing import Any

import torch
from torch import Tensor

from micro_transformer.nn.kernels.sdpa import Sdpa

# B batch, H heads, T tokens, d head_dim


def takes(q: Tensor) -> bool:
    """Whether the package has a kernel for these queries."""
    return q.is_cuda and q.dtype in (torch.bfloat16, torch.float16)


class Flash(Sdpa):
    """flash_attn_func (Dao, 2023) where it applies: in half precision, without a mask tensor.

    Elsewhere, as in float32, it is `Sdpa`; the record's env.attention says what ran. Its kernel
    aligns the causal triangle to the bottom right, which is the same for the square masks that it
    is used for.
    """

    package = "flash_attn"

    def _fused(self, q: Tensor, k: Tensor, v: Tensor, scale: float, **mask: Any) -> Tensor:
        if "attn_mask" in mask or not takes(q):
            return super()._fused(q, k, v, scale, **mask)
        from flash_attn import flash_attn_func

        self.note("flash_attn")
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))  # (B, T, H, d)
        out = flash_attn_func(
            q,
            k,
            v,
            dropout_p=self.dropout if self.training else 0.0,
            softmax_scale=scale,
            causal=mask.get("is_causal", False),
        )
        return out.transpose(1, 2)  # (B, H, T, d)
