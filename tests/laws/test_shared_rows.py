"""Laws of rows with a common past, as in beam search: what they share is read once, exactly."""

import pytest
import torch
from torch import Tensor

from micro_transformer.generation import positions
from micro_transformer.nn.cache import base
from micro_transformer.nn.cache.base import CacheLayer, ScatteredSegment, Segment
from micro_transformer.nn.visibility import CAUSAL, Wanted
from tests.conftest import build, facts, make_cache, members, random_ids
from tests.laws.test_cache import (
    CACHES,
    PATTERNS,
    assert_equal,
    claimed,
    net_of,
    spec,
)

KERNELS = [
    name
    for name in members("attention")
    if facts("attention", name)["takes_segments"] and facts("attention", name)["package"] is None
]
# Parents of each step: rows grow, swap, die out and are copied; the second row begins with pads.
WALK = [[0, 0, 1], [1, 0, 2], [1, 1, 0], [0, 1, 2], [2, 0, 1], [0, 0, 0], [0, 2, 1], [2, 2, 1]]


@pytest.fixture(autouse=True)
def read_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "SHARED", 2)


def assert_a_walk_computes_the_same(cache: str, prompt: Tensor, **net: object) -> None:
    """Rows whose parents change at each step have the logits of their texts read at once."""
    model, pads = net_of(**net), bool((prompt == 0).any())  # type: ignore[arg-type]
    held = make_cache(cache, model, len(prompt), 24)
    model(prompt, held, positions(prompt) if pads else None)
    ids = prompt
    for parents in WALK:
        rows = torch.tensor(parents) % len(ids)
        held.reorder(rows)
        ids = torch.cat((ids[rows], random_ids(3, 1)), 1)
        new = ids if not held.stores else ids[:, -1:]
        pos = positions(ids) if pads and not held.stores else None
        out = model(new, held, pos)[:, -1]
        expected = claimed(model, cache, ids, positions(ids) if pads else None)[:, -1]
        assert_equal(cache, out, expected)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("cache", CACHES)
@torch.inference_mode()
def test_beams_with_each_kernel(cache: str, kernel: str) -> None:
    assert_a_walk_computes_the_same(cache, random_ids(1, 9), posenc="rope", attention=kernel)


@pytest.mark.parametrize("kv_heads", [None, 2])
@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("posenc", members("posenc"))
@pytest.mark.parametrize("cache", ["contiguous", "paged"])
@torch.inference_mode()
def test_beams_with_each_net(cache: str, posenc: str, pattern: str, kv_heads: int | None) -> None:
    net = {"posenc": posenc, "pattern": pattern, "num_kv_heads": kv_heads}
    assert_a_walk_computes_the_same(cache, random_ids(1, 9), **net)


@pytest.mark.parametrize("cache", ["contiguous", "paged"])
@torch.inference_mode()
def test_beams_of_prompts_with_pads(cache: str) -> None:
    prompt = random_ids(2, 9)
    prompt[1, :3] = 0
    assert_a_walk_computes_the_same(cache, prompt, posenc="rope")


def last(layer: CacheLayer, length: int) -> list[Segment]:
    """What the last of `length` tokens reads."""
    wanted = Wanted(CAUSAL, range(length - 1, length), range(length))
    return [part for segment in layer.segments(wanted) for part in segment.parts()]


def test_contiguous_rows_read_once_what_they_share() -> None:
    layer = build("cache", "contiguous", spec(batch=1, max_len=20))
    k = torch.randn(1, 4, 9, 8)
    layer.append(k, -k, torch.arange(9))
    layer.reorder(torch.tensor([0, 0, 0]))
    new = torch.randn(3, 4, 2, 8)
    layer.append(new[:, :, :1], new[:, :, :1], torch.arange(9, 10))
    layer.reorder(torch.tensor([1, 1, 2]))
    layer.append(new[:, :, 1:], new[:, :, 1:], torch.arange(10, 11))
    shared, own = last(layer, 11)
    assert (shared.shared, shared.start, shared.stop) == (True, 0, 9)
    assert (own.shared, own.start, own.stop) == (False, 9, 11)
    assert torch.equal(shared.k, k) and torch.equal(shared.v, -k)
    assert torch.equal(own.k, torch.stack((new[[1, 1, 2], :, 0], new[:, :, 1]), 2))


@pytest.mark.parametrize("seed", range(4))
def test_paged_rows_read_each_block_once_and_copy_only_what_differs(seed: int) -> None:
    layer = build("cache", "paged", spec(batch=1, max_len=80))
    generator = torch.Generator().manual_seed(seed)
    k = torch.randn(1, 4, 18, 8)
    layer.append(k, -k, torch.arange(18))
    expected, length = k, 18
    for _ in range(50):
        rows = torch.randint(0, len(layer.table), (3,), generator=generator)
        new = torch.randn(3, 4, 1, 8, generator=generator)
        layer.reorder(rows)
        layer.append(new, -new, torch.arange(length, length + 1))
        expected, length = torch.cat((expected[rows], new), 2), length + 1
        segments, held = last(layer, length), {slab.data_ptr() for slab in layer.pool.slabs}
        views = [s for s in segments if s.k.untyped_storage().data_ptr() in held]
        copies = [s for s in segments if s.k.untyped_storage().data_ptr() not in held]
        read = sum(s.k.shape[0] * s.k.shape[2] for s in views)
        assert read <= 3 * -(-length // layer.block) * layer.block
        for s in copies:
            assert s.k.shape[2] <= layer.block
            assert torch.equal(s.k, expected[:, :, s.start : s.stop])
        for s in segments:
            if not isinstance(s, ScatteredSegment):
                assert torch.equal(s.k.expand(3, -1, -1, -1), expected[:, :, s.start : s.stop])
                assert torch.equal(s.v, -s.k)
