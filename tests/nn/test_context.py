"""Masks, biases and rotations are shared by layers only where they are equal."""

import torch

from micro_transformer.nn.cache.sliding import LastKeys
from micro_transformer.nn.context import Context
from micro_transformer.nn.visibility import CAUSAL
from tests.conftest import build, tiny_dims


def context(posenc: str) -> Context:
    encoding = build("posenc", posenc, tiny_dims())
    return Context(encoding, CAUSAL, torch.arange(3, 5), batch=1, num_heads=4, padded=False)


def test_layers_with_the_same_keys_share_one_mask() -> None:
    shared = context("alibi")
    mask = shared.masks.of(0, 2, LastKeys(3))
    assert shared.masks.of(0, 2, LastKeys(3)) is mask
    assert shared.masks.of(0, 2, LastKeys(2)) is not mask
    assert shared.masks.of(0, 2) is not mask


def test_a_rotation_follows_the_dtype() -> None:
    shared, x = context("rope"), torch.randn(1, 4, 2, 8)
    wide, narrow = shared.rotate(x), shared.rotate(x.bfloat16())
    assert (wide.dtype, narrow.dtype) == (torch.float32, torch.bfloat16)
    torch.testing.assert_close(narrow.float(), wide, rtol=0, atol=0.05)
