"""Auxiliary losses, such as the load balance of experts, without state between net and trainer."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def attach(x: Tensor, loss: Tensor, scale: Tensor | None) -> Tensor:
    """x, unchanged, whose backward pass adds the gradient of scale · loss (a scalar).

    So an auxiliary loss is trained without being part of the training loss, as in Megatron-LM
    (MoEAuxLossAutoScaler) and OLMo-core. scale: `Context.aux_scale`, the factor by which the
    trainer multiplies the training loss; None outside of training, where nothing is attached.
    """
    return x if scale is None else _Attach.apply(x, loss, scale)


class _Attach(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, loss: Tensor, scale: Tensor) -> Tensor:
        ctx.save_for_backward(scale.to(loss.dtype))
        return x.view_as(x)  # (B, T, D)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        (scale,) = ctx.saved_tensors
        return grad, scale, None
