"""FFN with a gated SiLU."""

import torch.nn.functional as F
from torch import Tensor

from micro_transformer.nn.dims import Dims
from micro_transformer.nn.ffn.base import FFN
from micro_transformer.nn.linear import Linear

# B batch, T tokens


class SwiGLU(FFN):
    """down(silu(gate(x)) · up(x)) (Shazeer, 2020), gate and up in one matrix product.

    Hidden width is 2/3 of d_ff, so that the number of parameters is that of an FFN without gates.
    """

    def __init__(self, dims: Dims):
        super().__init__()
        hidden = round(dims.d_ff * 2 / 3)
        self.gate_up = Linear(dims.d_model, 2 * hidden, bias=dims.bias)
        self.down = Linear(hidden, dims.d_model, bias=dims.bias)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_up(x).chunk(2, -1)  # (B, T, hidden) each
        return self.down(F.silu(gate) * up)

    def residual_outputs(self) -> list[Tensor]:
        return [self.down.weight]
