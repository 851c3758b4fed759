"""The gated FFN."""

import torch.nn.functional as F
from torch import Tensor

from micro_transformer.nn.dims import Dims
from micro_transformer.nn.ffn.base import FFN
from micro_transformer.nn.linear import Linear


class SwiGLU(FFN):
    """down(silu(gate(x)) · up(x)) (Shazeer, 2020), gate and up in one product.

    Its hidden width is two thirds of a plain FFN's, so that both count the same parameters.
    """

    def __init__(self, dims: Dims):
        super().__init__()
        hidden = round(dims.d_ff * 2 / 3)
        self.gate_up = Linear(dims.d_model, 2 * hidden, bias=dims.bias)
        self.down = Linear(hidden, dims.d_model, bias=dims.bias)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_up(x).chunk(2, -1)
        return self.down(F.silu(gate) * up)

    def outputs(self) -> list[Tensor]:
        return [self.down.weight]
