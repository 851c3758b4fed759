"""Rows grouped by expert: gather, one matrix product per group, and back, without masks.

Only the rows of an expert are multiplied by its weights, so k of E experts per token cost k/E of
the FLOPs of all. Results and gradients are written in place, a group at a time; by autograd's own
split, select and cat each group would be copied twice more and the stack of weights E times.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# N tokens, k choices per token, E experts, I inputs, O outputs, P rows: those of each expert in
# turn, each group filled up to a multiple of an alignment, and a last row that is of no group

# A product of a new number of bf16 rows takes oneDNN 1 to 3 times the product itself to prepare
# (512 rows of 128 x 256: 3.7 instead of 1.2 ms). With multiples of a sixteenth of an even share,
# a power of two of at least 16, the sizes soon repeat, and 3 % of the rows are filling.
PER_SHARE, LEAST = 16, 16


@dataclass(frozen=True)
class Layout:
    """Which row is which choice of which token.

    sizes: rows of each group. choices: (P,), the choice of each row, as an index of (k, N); k N for
    a filling row. tokens: (P,), the token of each row, token 0 for a filling row. inverse: (k, N),
    the row of each choice, P - 1 for one that no expert takes.
    """

    sizes: list[int]
    choices: Tensor
    tokens: Tensor
    inverse: Tensor

    @classmethod
    def of(cls, taken: Tensor, top_k: int) -> Self:
        """taken: (E, k N), whether an expert takes a choice."""
        num_experts, num_choices = taken.shape
        num_tokens = num_choices // top_k
        order = taken.nonzero()[:, 1]  # choices by expert
        counts = taken.sum(1).tolist()
        multiple = alignment(num_choices // num_experts)
        sizes = [-(-n // multiple) * multiple for n in counts]
        starts = [0, *itertools.accumulate(sizes)]
        rows = torch.cat([torch.arange(a, a + n) for a, n in zip(starts, counts, strict=False)])
        rows = rows.to(taken.device)
        choices = order.new_full((starts[-1] + 1,), num_choices).index_copy_(0, rows, order)
        inverse = order.new_full((num_choices,), starts[-1]).index_copy_(0, order, rows)
        tokens = choices % max(1, num_tokens)
        return cls(sizes, choices, tokens, inverse.view(top_k, num_tokens))  # (k, N)

    def of_groups(self, x: Tensor) -> Tensor:
        """(E, I) -> (P, I), each expert's on its rows; the first one's on the last row."""
        return torch.cat([x.repeat_interleave(self._counts(x), 0), x[:1]])

    def _counts(self, x: Tensor) -> Tensor:
        return torch.tensor(self.sizes, device=x.device)


def alignment(share: int) -> int:
    """Of the groups' sizes, given the rows per expert of an even split; 1 for few rows, which are
    many passes over the weights and little work."""
    step = 1 << max(0, (share // PER_SHARE).bit_length() - 1)
    return 1 if share < 4 * LEAST else max(LEAST, step)


def gather(x: Tensor, layout: Layout) -> Tensor:
    """(N, I) -> (P, I), the token of each row."""
    return _Gather.apply(x, layout)


def combine(rows: Tensor, gates: Tensor, layout: Layout) -> Tensor:
    """(P, O), gates (k, N) -> (N, O): sum over the rows of a token, each times its gate. Gates of
    choices that no expert takes must be 0."""
    return _Combine.apply(rows, gates, layout)


def grouped_linear(x: Tensor, weight: Tensor, sizes: Sequence[int]) -> Tensor:
    """(P, I), (E, O, I) -> (P, O): x W_e^T for the sizes[e] rows of each expert e in turn, 0 for
    the rows after them."""
    return _GroupedLinear.apply(x, weight, sizes)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, layout: Layout) -> Tensor:
        ctx.layout = layout
        return x.index_select(0, layout.tokens)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        first, *others = [grad.index_select(0, rows) for rows in ctx.layout.inverse]
        return sum(others, first), None


class _Combine(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, gates: Tensor, layout: Layout) -> Tensor:
        ctx.save_for_backward(rows, gates)
        ctx.layout = layout
        gates = gates.to(rows.dtype)[..., None]  # (k, N, 1)
        first, *others = [rows.index_select(0, each) for each in layout.inverse]
        out = first.mul_(gates[0])
        for other, gate in zip(others, gates[1:], strict=True):
            out.addcmul_(other, gate)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        (rows, gates), layout = ctx.saved_tensors, ctx.layout
        to_rows = grad.index_select(0, layout.tokens)  # (P, O)
        slopes = (to_rows * rows).sum(-1, dtype=gates.dtype)  # (P,)
        with_filling = torch.cat([gates.flatten(), gates.new_zeros(1)])  # (k N + 1,)
        to_rows.mul_(with_filling[layout.choices, None].to(grad.dtype))
        to_gates = torch.zeros_like(with_filling).index_copy_(0, layout.choices, slopes)
        return to_rows, to_gates[:-1].view_as(gates), None  # (k, N)


class _GroupedLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, sizes: Sequence[int]) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.sizes = [*sizes, len(x) - sum(sizes)]
        out = x.new_empty(len(x), weight.shape[1])
        *groups, rest = out.split(ctx.sizes)  # (rows, O) each
        for to, rows, matrix in zip(groups, x.split(ctx.sizes), weight.mT, strict=False):
            torch.mm(rows, matrix, out=to)
        rest.zero_()
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        x, weight = ctx.saved_tensors
        grad, to_x, to_weight = grad.contiguous(), torch.empty_like(x), torch.empty_like(weight)
        # groups of rows of (P, O), (P, I) and (P, I)
        parts = zip(grad.split(ctx.sizes), x.split(ctx.sizes), to_x.split(ctx.sizes), strict=True)
        *groups, (_slope, _rows, rest) = parts
        matrices = zip(weight, to_weight, strict=True)
        for (slope, rows, to_rows), (matrix, to_matrix) in zip(groups, matrices, strict=True):
            torch.mm(slope, matrix, out=to_rows)
            torch.mm(slope.T, rows, out=to_matrix)  # (O, I)
        rest.zero_()
        return to_x, to_weight, None
