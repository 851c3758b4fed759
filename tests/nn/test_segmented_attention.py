"""Segmented attention: the rounding error does not grow with the number of segments."""

import functools

import pytest
import torch
from torch import Tensor

from micro_transformer.config.components import make
from micro_transformer.nn import segmented_attention
from micro_transformer.nn.cache.base import Segment
from micro_transformer.nn.context import Context
from micro_transformer.nn.kernels.blockwise import Blockwise
from micro_transformer.nn.masks import Mask, causal
from tests.conftest import tiny_dims

T, D = 2048, 8
SCALE = D**-0.5
NUM_Q = 2  # the last ones


def inputs(dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Uniform scores and values of one sign: the worst case for a running sum."""
    q, k = 0.1 * torch.randn(1, 4, NUM_Q, D), 0.1 * torch.randn(1, 4, T, D)
    return q.to(dtype), k.to(dtype), (torch.randn(1, 4, T, D) + 1).to(dtype)


def in_segments(path: str, q: Tensor, k: Tensor, v: Tensor, block: int) -> Tensor:
    posenc = make("posenc", {"kind": "NoPosition"}, tiny_dims())
    pos = torch.arange(T - NUM_Q, T)
    context = Context(posenc, causal, pos, batch=1, num_heads=4, plain=True)
    context.k_pos, context.first = torch.arange(T), T - NUM_Q
    pieces = [
        Segment(s, k[:, :, s : s + block], v[:, :, s : s + block]) for s in range(0, T, block)
    ]
    return getattr(segmented_attention, path)(context, lambda view: q, pieces, SCALE)


def in_blocks(q: Tensor, k: Tensor, v: Tensor, block: int) -> Tensor:
    mask = Mask(causal, torch.arange(T - NUM_Q, T), torch.arange(T), q_offset=T - NUM_Q)
    return Blockwise(block=block)(q, k, v, mask, None, SCALE)


WAYS = {
    "two passes": functools.partial(in_segments, "_in_two_passes"),
    "online": functools.partial(in_segments, "_online"),
    "blockwise": in_blocks,
}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("way", WAYS)
def test_many_pieces_are_as_exact_as_one(way: str, dtype: torch.dtype) -> None:
    q, k, v = inputs(dtype)
    scores = q.double() @ k.double().mT * SCALE
    scores[:, :, 0, -1] = float("-inf")
    exact = scores.softmax(-1) @ v.double()

    def error(block: int) -> float:
        out = WAYS[way](q, k, v, block)
        assert out.dtype == dtype
        return ((out.double() - exact).norm() / exact.norm()).item()

    one = error(T)
    assert one < 8 * torch.finfo(dtype).eps
    for block in (256, 16, 3, 1):
        assert error(block) < 1.5 * one + 5e-6, block
