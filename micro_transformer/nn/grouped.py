"""Rows grouped by expert: gather, one matrix product per group, and back, without masks or padding.

Only the rows of an expert are multiplied by its weights, so k of E experts per token cost k/E of
the FLOPs of all. The results and their gradients are written in place of groups of one buffer; by
autograd's own split, select and cat each group would be copied twice more and the stack of weights
E times.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# N tokens, k choices per token, M rows in order of their experts, E experts, I inputs, O outputs


def gather(x: Tensor, index: Tensor, inverse: Tensor) -> Tensor:
    """(N, I) -> (M, I), row m = x[index[m]]. inverse: (k, N), the rows made of each token, M for
    none; its sum over k is the gradient, which autograd would add up row by row."""
    return _Gather.apply(x, index, inverse)


def combine(rows: Tensor, gates: Tensor, choices: Tensor, index: Tensor, inverse: Tensor) -> Tensor:
    """(M, O), gates (k, N) -> (N, O): sum over a token's k rows, each times its gate; a row M, of a
    dropped choice, is 0. choices: (M,), of each row its gate in the flattened ones. index, inverse:
    as in `gather`."""
    return _Combine.apply(rows, gates, choices, index, inverse)


def grouped_linear(x: Tensor, weight: Tensor, sizes: Sequence[int]) -> Tensor:
    """(M, I), (E, O, I) -> (M, O): x W_e^T for the sizes[e] rows of each expert e, in order."""
    return _GroupedLinear.apply(x, weight, sizes)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Tensor, inverse: Tensor) -> Tensor:
        ctx.save_for_backward(inverse)
        return x.index_select(0, index)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (inverse,) = ctx.saved_tensors
        first, *others = _per_choice(grad, inverse)
        return sum(others, first), None, None


class _Combine(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, gates: Tensor, choices: Tensor, index: Tensor, inverse: Tensor
    ) -> Tensor:
        ctx.save_for_backward(rows, gates, choices, index)
        gates = gates.to(rows.dtype)[..., None]  # (k, N, 1)
        first, *others = _per_choice(rows, inverse)
        out = first.mul_(gates[0])
        for other, gate in zip(others, gates[1:], strict=True):
            out.addcmul_(other, gate)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        rows, gates, choices, index = ctx.saved_tensors
        each = grad.index_select(0, index)  # (M, O), of the token of each row
        slopes = (each * rows).sum(-1, dtype=gates.dtype)  # (M,)
        to_gates = gates.new_zeros(gates.numel()).index_copy_(0, choices, slopes)
        to_rows = each.mul_(gates.reshape(-1)[choices, None].to(each.dtype))  # (M, O)
        return to_rows, to_gates.view_as(gates), None, None, None  # (k, N)


def _per_choice(x: Tensor, inverse: Tensor) -> list[Tensor]:
    """(M, I), (k, N) -> k times (N, I), 0 for a row M."""
    if inverse.numel() > len(x):  # some choices were dropped
        x = torch.cat([x, x.new_zeros(1, x.shape[1])])
    return [x.index_select(0, rows) for rows in inverse]


class _GroupedLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, sizes: Sequence[int]) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.sizes = sizes
        out = x.new_empty(len(x), weight.shape[1])
        for expert, group in enumerate(_groups(sizes)):
            torch.mm(x[group], weight[expert].T, out=out[group])  # (I, O)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        x, weight = ctx.saved_tensors
        grad = grad.contiguous()
        to_x, to_weight = torch.empty_like(x), torch.empty_like(weight)
        for expert, group in enumerate(_groups(ctx.sizes)):
            torch.mm(grad[group], weight[expert], out=to_x[group])
            torch.mm(grad[group].T, x[group], out=to_weight[expert])  # (O, I)
        return to_x, to_weight, None


def _groups(sizes: Sequence[int]) -> list[slice]:
    """The rows of each expert."""
    stops = list(itertools.accumulate(sizes))
    return [slice(stop - size, stop) for size, stop in zip(sizes, stops, strict=True)]
