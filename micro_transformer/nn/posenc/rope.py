"""Rotary position embedding."""

import torch
from torch import Tensor

from micro_transformer.config.knobs import Base
from micro_transformer.nn.dims import Dims
from micro_transformer.nn.posenc.base import PositionalEncoding, Rotation
from micro_transformer.nn.scaling.base import Scaling
from micro_transformer.nn.scaling.none import NoScaling
from micro_transformer.wording import _

# B batch, T tokens, d head_dim


class RoPE(PositionalEncoding):
    """Rotates channel pair i by pos · base^(-2i/d) radians (Su et al., 2021, eq. 34).

    So q·k depends on distances only. Pairs are channels (i, i + d/2), the layout of GPT-NeoX and
    Llama in transformers. Angles are float32 in every dtype: in bf16 they would be off by whole
    turns. After training, `stretch` applies a scaling for longer texts.
    """

    pairs_channels = True
    relative = True
    scalable = True
    inv_freq: Tensor

    def __init__(self, dims: Dims, *, base: Base = 10_000.0):
        super().__init__(dims)
        if dims.head_dim % 2:
            raise ValueError(
                _(
                    "d_model={d_model}, num_heads={num_heads}: heads of {head_dim} "
                    "channels cannot be rotated in pairs; change one of them",
                    d_model=dims.d_model,
                    num_heads=dims.num_heads,
                    head_dim=dims.head_dim,
                )
            )
        even = torch.arange(0, dims.head_dim, 2, dtype=torch.float32)
        self.register_buffer("inv_freq", base ** (-even / dims.head_dim), persistent=False)
        self._scaling: Scaling = NoScaling()
        self._original_len = 0

    def stretch(self, scaling: Scaling, original_len: int) -> None:
        """Uses the scaling from now on; original_len: context length of training, in tokens."""
        self._scaling, self._original_len = scaling, original_len

    def frequencies(self, length: int) -> tuple[Tensor, float]:
        """(d/2,) radians per token, and the factor on q·k, for a text of `length` tokens."""
        return self._scaling(self.inv_freq, original_len=self._original_len, target_len=length)

    def score_scale(self, length: int = 0) -> float:
        return self.frequencies(length)[1]

    def rotation(self, pos: Tensor, dtype: torch.dtype, length: int = 0) -> Rotation:
        # angles: (T, d/2) or (B, T, d/2)
        angles = pos[..., None].float() * self.frequencies(length)[0]
        if pos.ndim == 2:
            angles = angles[:, None]  # (B, 1, T, d/2)
        cos, sin = angles.cos(), angles.sin()
        return Rotation(
            cos=torch.cat((cos, cos), -1).to(dtype), sin=torch.cat((-sin, sin), -1).to(dtype)
        )
