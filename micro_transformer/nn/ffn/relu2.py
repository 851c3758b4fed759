"""FFN with a squared ReLU."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from micro_transformer.nn.ffn.dense import Dense


class ReLU2(Dense):
    """down(relu(up(x))²) (So et al., 2021)."""

    @staticmethod
    def activate(x: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            return SquaredReLU.apply(x)
        return x.relu_().square_()  # in place: no new pages for long prompts


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
