"""BigBird's pattern: which blocks are seen, and what they cost."""

import pytest
import torch

from micro_transformer.nn.masks import Mask
from micro_transformer.nn.patterns.block_sparse import BlockSparse
from micro_transformer.nn.visibility import CAUSAL, all_of
from tests.conftest import build
from tests.nn.test_skipping import Scores

KNOBS = {"block": 8, "window_blocks": 2, "global_blocks": 1, "random_blocks": 3, "seed": 0}


def blocks(length: int, **knobs: int) -> torch.Tensor:
    """(n, n) booleans: blocks seen under causality, whole or not at all but for the diagonal."""
    zero, at = torch.tensor(0), torch.arange(length)
    pattern = BlockSparse(**KNOBS | knobs)
    seen = all_of(CAUSAL, pattern).visible(zero, zero, at[:, None], at[None])
    grid = seen.unflatten(0, (-1, 8)).unflatten(2, (-1, 8)).movedim(2, 1)
    below = torch.ones(len(grid), len(grid)).tril(-1).bool()
    assert (grid[below].flatten(1).all(1) == grid[below].flatten(1).any(1)).all()
    assert (grid.diagonal().movedim(-1, 0) == torch.ones(8, 8).tril().bool()).all()
    return grid.flatten(2).any(2)


def test_a_query_sees_its_window_the_global_blocks_and_random_ones() -> None:
    seen = blocks(320)
    for row, columns in enumerate(seen.tolist()):
        near = {c for c in range(row + 1) if row - c <= 2 or c < 1}
        others = {c for c, one in enumerate(columns) if one} - near
        assert all(columns[c] for c in near)
        assert len(others) == min(3, max(0, row - 3)) and all(c < row for c in others)


def test_random_blocks_follow_the_patterns_seed_and_not_the_length() -> None:
    assert torch.equal(blocks(640)[:40, :40], blocks(320))
    assert torch.equal(blocks(320), blocks(320))
    assert not torch.equal(blocks(320), blocks(320, seed=1))


@pytest.mark.parametrize("kernel", ["auto", "sdpa"])
def test_it_costs_what_it_shows(kernel: str) -> None:
    """Forward and backward; twice the length costs twice as much, but for the first rows."""
    counted = {}
    for length in (1024, 2048, 4096):
        pos = torch.arange(length)
        pattern = BlockSparse(**KNOBS | {"block": 32})
        mask = Mask(all_of(CAUSAL, pattern), pos, pos, (range(length), range(length)))
        qkv = torch.randn(3, 1, 1, length, 8, requires_grad=True).unbind()  # (B, H, T, d) each
        with Scores() as seen:
            out = build("attention", kernel)(*qkv, mask, 0.3)
            forward = seen.pairs
            out.sum().backward()
        assert forward <= length * 7 * 32
        assert seen.pairs <= 3.5 * forward and seen.largest <= length * 32 * 8
        counted[length] = forward
    assert counted[2048] < 2.2 * counted[1024] and counted[4096] < 2.2 * counted[2048]
