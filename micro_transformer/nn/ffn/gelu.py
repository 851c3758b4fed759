"""FFN with GELU."""

import torch.nn.functional as F
from torch import Tensor

from micro_transformer.nn.ffn.dense import Dense


class GELU(Dense):
    """down(gelu(up(x))), exact GELU, not the tanh form (Hendrycks and Gimpel, 2016)."""

    @staticmethod
    def activate(x: Tensor) -> Tensor:
        return F.gelu(x)
