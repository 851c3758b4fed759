"""FFN with a gated SiLU."""

import torch.nn.functional as F
from torch import Tensor

from micro_transformer.nn.ffn.dense import Dense


class SwiGLU(Dense):
    """down(silu(gate) · x) with (gate, x) = up(input), one matrix product (Shazeer, 2020).

    Hidden width is 2/3 of d_ff, so that the number of parameters is that of an FFN without gates.
    """

    gated = True

    @staticmethod
    def activate(x: Tensor) -> Tensor:
        gate, up = x.chunk(2, -1)
        return F.silu(gate) * up
