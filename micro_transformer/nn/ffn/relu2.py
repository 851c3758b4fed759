"""FFN with a squared ReLU."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from micro_transformer.nn.dims import Dims
from micro_transformer.nn.ffn.base import FFN
from micro_transformer.nn.linear import Linear


class ReLU2(FFN):
    """down(relu(up(x))²) (So et al., 2021)."""

    def __init__(self, dims: Dims):
        super().__init__()
        self.up = Linear(dims.d_model, dims.d_ff, bias=dims.bias)
        self.down = Linear(dims.d_ff, dims.d_model, bias=dims.bias)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.up(x)
        if torch.is_grad_enabled():
            return self.down(SquaredReLU.apply(hidden))
        return self.down(hidden.relu_().square_())  # in place: no new pages for long prompts

    def residual_outputs(self) -> list[Tensor]:
        return [self.down.weight]


class SquaredReLU(torch.autograd.Function):
    """relu(x)²; backward: 2 relu(x) · grad, fewer elementwise passes than autograd's."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        hidden = x.relu()
        ctx.save_for_backward(hidden)
        return hidden * hidden

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (hidden,) = ctx.saved_tensors
        return (grad * hidden).mul_(2)
