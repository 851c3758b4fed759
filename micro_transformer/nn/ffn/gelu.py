"""FFN with GELU."""

import torch.nn.functional as F
from torch import Tensor

from micro_transformer.nn.dims import Dims
from micro_transformer.nn.ffn.base import FFN
from micro_transformer.nn.linear import Linear


class GELU(FFN):
    """down(gelu(up(x))), exact GELU, not the tanh form (Hendrycks and Gimpel, 2016)."""

    def __init__(self, dims: Dims):
        super().__init__()
        self.up = Linear(dims.d_model, dims.d_ff, bias=dims.bias)
        self.down = Linear(dims.d_ff, dims.d_model, bias=dims.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.gelu(self.up(x)))

    def residual_outputs(self) -> list[Tensor]:
        return [self.down.weight]
