"""Bottleneck adapters: a small residual net after each FFN."""

import torch
import torch.nn.functional as F
from torch import Tensor

from micro_transformer.config.knobs import Count, Positive
from micro_transformer.nn.adapters.base import Adapter
from micro_transformer.nn.arch.base import Net
from micro_transformer.nn.context import Context
from micro_transformer.nn.ffn.base import FFN
from micro_transformer.nn.linear import Linear
from micro_transformer.nn.parameter_kinds import ADAPTER

# B batch, T tokens, D model width


class Bottleneck(Adapter):
    """y + up(gelu(down(y))) on the output y of each FFN (Houlsby et al., 2019), after the FFN alone
    as in Pfeiffer et al. (2020), with biases.

    width: units between down and up. lr: peak learning rate, in place of the recipe's. At step 0
    the outputs are the base's, as `up` is 0.
    """

    def __init__(self, *, width: Count, lr: Positive):
        self.width, self.lr = width, lr

    def insert(self, net: Net) -> None:
        for block in net.blocks():
            block.ffn = AdaptedFFN(block.ffn, net.dims.d_model, self.width, self.lr)


class AdaptedFFN(FFN):
    """An FFN with a bottleneck after it."""

    def __init__(self, ffn: FFN, d_model: int, width: int, lr: float):
        super().__init__()
        self.ffn = ffn
        self.down, self.up = AdapterLinear(d_model, width, lr), AdapterLinear(width, d_model, lr)
        torch.nn.init.zeros_(self.up.weight)
        like = next(ffn.parameters())
        self.down.to(like)
        self.up.to(like)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        return self._adapted(self.ffn(x))

    def residual(self, x: Tensor, context: Context, index: int) -> Tensor:
        return self._adapted(self.ffn.residual(x, context, index))

    def _adapted(self, y: Tensor) -> Tensor:
        return y + self.up(F.gelu(self.down(y)))

    def residual_outputs(self) -> list[Tensor]:
        return self.ffn.residual_outputs()

    def active_params(self) -> int:
        return self.ffn.active_params() + sum(
            p.numel() for layer in (self.down, self.up) for p in layer.parameters()
        )

    def flops_per_token(self) -> int:
        own = 2 * (self.down.weight.numel() + self.up.weight.numel())
        return self.ffn.flops_per_token() + own


class AdapterLinear(Linear):
    """A linear layer of an adapter, trained at its rate; its bias starts at 0."""

    kinds = {"weight": ADAPTER}

    def __init__(self, in_features: int, out_features: int, lr: float):
        super().__init__(in_features, out_features)
        torch.nn.init.zeros_(self.bias)
        self.lr = lr
