"""Masks, biases and rotations are shared by layers only where they are equal."""

import torch

from micro_transformer.nn.cache.sliding import LastKeys
from micro_transformer.nn.context import Context
from micro_transformer.nn.masks import causal
from tests.conftest import build, tiny_dims


def context(posenc: str) -> Context:
    encoding = build("posenc", posenc, tiny_dims())
    return Context(encoding, causal, torch.arange(3, 5), batch=1, num_heads=4, plain=True)


def test_layers_with_the_same_keys_share_one_sight() -> None:
    shared = context("alibi")
    span = shared.span(0, 2, LastKeys(3))
    assert shared.span(0, 2, LastKeys(3)) is span
    assert shared.span(0, 2, LastKeys(2)) is not span
    assert shared.span(0, 2) is not span


def test_a_rotation_follows_the_dtype() -> None:
    shared, x = context("rope"), torch.randn(1, 4, 2, 8)
    wide, narrow = shared.rotate(x), shared.rotate(x.bfloat16())
    assert (wide.dtype, narrow.dtype) == (torch.float32, torch.bfloat16)
    torch.testing.assert_close(narrow.float(), wide, rtol=0, atol=0.05)
