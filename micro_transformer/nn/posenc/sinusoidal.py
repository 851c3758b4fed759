"""Fixed sines and cosines added to the embeddings."""

import math

import torch
from torch import Tensor

from micro_transformer.config.knobs import Base
from micro_transformer.nn.dims import Dims
from micro_transformer.nn.posenc.base import PositionalEncoding

# B batch, T tokens, D model width


class Sinusoidal(PositionalEncoding):
    """x · sqrt(D) + PE, PE[p, 2i] = sin(p · base^(-2i/D)), PE[p, 2i+1] = cos (Vaswani, 2017, 3.5).

    The factor sqrt(D) is the paper's (3.4): embeddings initialised with std 0.02 would otherwise be
    small against PE, whose entries are up to 1.
    """

    frequencies: Tensor

    def __init__(self, dims: Dims, *, base: Base = 10_000.0):
        super().__init__(dims)
        self.width = dims.d_model
        even = torch.arange(0, dims.d_model, 2, dtype=torch.float32)
        self.register_buffer("frequencies", base ** (-even / dims.d_model), persistent=False)

    def embed(self, x: Tensor, pos: Tensor) -> Tensor:
        angles = pos[..., None].float() * self.frequencies  # (..., T, D/2)
        # (T, D) or (B, T, D)
        waves = torch.stack((angles.sin(), angles.cos()), -1).flatten(-2)[..., : self.width]
        return x * math.sqrt(self.width) + waves.to(x.dtype)
