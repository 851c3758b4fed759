"""Rotary positions."""

import torch
from torch import Tensor

from micro_transformer.knobs import Positive
from micro_transformer.nn.dims import Dims
from micro_transformer.nn.posenc.base import PositionalEncoding, Rotation


class RoPE(PositionalEncoding):
    """Pair i turns by pos · base^(-2i/d) (Su et al., 2021, eq. 34), so that q·k sees i - j only.

    Pairs are channels (i, i + d/2), the layout of GPT-NeoX and Llama in transformers. Angles are
    float32 whatever the dtype: in bf16 they would be off by whole turns. `inv_freq` and
    `score_scale` may be replaced on a trained net; nothing else depends on them.
    """

    pairs_channels = True
    relative = True
    inv_freq: Tensor

    def __init__(self, dims: Dims, *, base: Positive = 10_000.0):
        super().__init__(dims)
        if dims.head_dim % 2:
            raise ValueError(
                f"d_model={dims.d_model}, num_heads={dims.num_heads}: heads of {dims.head_dim} "
                "channels cannot be turned in pairs; change one of them"
            )
        even = torch.arange(0, dims.head_dim, 2, dtype=torch.float32)
        self.register_buffer("inv_freq", base ** (-even / dims.head_dim), persistent=False)

    def rotation(self, pos: Tensor, dtype: torch.dtype) -> Rotation:
        angles = pos[..., None].float() * self.inv_freq  # (T, d/2) or (B, T, d/2)
        if pos.ndim == 2:
            angles = angles[:, None]  # (B, 1, T, d/2)
        cos, sin = angles.cos(), angles.sin()
        return Rotation(
            cos=torch.cat((cos, cos), -1).to(dtype), sin=torch.cat((-sin, sin), -1).to(dtype)
        )
