"""Single caches, beyond the laws of all: bytes, transfers, reset."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from micro_transformer.config.components import make
from micro_transformer.config.schema import read_choice
from micro_transformer.nn.cache.base import Cache, CacheSpec, OverBudget
from micro_transformer.nn.cache.offload_storage import FileTier, HostTier
from tests.conftest import build, every_column, make_cache, members, random_ids, tiny_decoder

CACHES = members("cache")
FP32, CPU = torch.float32, torch.device("cpu")


SPEC = CacheSpec(1, 4, 8, 100, FP32, CPU)


def layer_of(choice: str, spec: CacheSpec = SPEC, **knobs: int) -> Any:
    """A cache layer of conf/cache/<choice>.yaml, with `knobs` replacing its own sizes."""
    return make("cache", read_choice("cache", choice) | knobs, spec)


@pytest.mark.parametrize("tokens", [1, 3, 4, 5, 8, 9, 13])
@pytest.mark.parametrize("cache", CACHES)
@torch.inference_mode()
def test_bytes_are_those_predicted_from_sizes(cache: str, tokens: int) -> None:
    """For every chunking; and used bytes are at most the allocated ones."""
    net, ids = tiny_decoder(), random_ids(2, tokens)
    for chunks in ([tokens], [1] * tokens):
        held = make_cache(cache, net, 2, 13)
        for part in ids.split(chunks, 1):
            net(part, held)
        predicted = [layer.predicted_nbytes(tokens) for layer in held.layers]
        assert [layer.nbytes() for layer in held.layers] == predicted
        used = sum(layer.used_nbytes() for layer in held.layers)
        assert 0 <= used <= held.nbytes() and (used > 0 or not held.stores or tokens % 4 == 0)


@pytest.mark.parametrize("cache", CACHES)
@torch.inference_mode()
def test_an_emptied_cache_is_as_good_as_new(cache: str) -> None:
    net, ids = tiny_decoder(key_shift=True), random_ids(2, 13)
    used = make_cache(cache, net, 2)
    net(random_ids(2, 11), used)
    used.reorder(torch.tensor([1]))
    used = used.reset()
    assert used.length == 0 and sum(layer.used_nbytes() for layer in used.layers) == 0
    fresh = make_cache(cache, net, 2)
    assert torch.equal(net(ids, used), net(ids, fresh))
    assert used.nbytes() == fresh.nbytes()


def test_paged_keeps_its_blocks_for_the_next_text() -> None:
    layer = layer_of("paged", block=4)
    layer.append(*torch.randn(2, 1, 4, 9, 8), torch.arange(9))
    assert layer.used_nbytes() == 9 * 2 * 4 * 8 * 4 and len(layer.free) == 0
    pool = [slab.data_ptr() for slab in layer.pool.slabs]
    layer.reset()
    assert sorted(layer.free) == [0, 1, 2] and layer.used_nbytes() == 0
    layer.append(*torch.randn(2, 1, 4, 12, 8), torch.arange(12))
    assert [slab.data_ptr() for slab in layer.pool.slabs] == pool


def test_int8_takes_less_than_three_tenths_at_8k_in_heads_of_32() -> None:
    layer = layer_of("paged_int8", spec=CacheSpec(1, 9, 32, 8192, FP32, CPU))
    for _ in range(8):
        layer.append(*torch.randn(2, 1, 9, 1024, 32), torch.arange(1024))
        layer.end_forward()
    assert layer.nbytes() == layer.predicted_nbytes(8192)
    assert layer.nbytes() <= 0.30 * 8192 * layer.token_nbytes()
    assert all(t.dtype in (torch.uint8, torch.float16) for b in layer.blocks for t in b.tensors())


def test_int8_keeps_the_newest_as_they_came_and_the_rest_within_half_a_step() -> None:
    layer = layer_of("paged_int8", block=8, group=4, residual=6)
    k, v = torch.randn(2, 1, 4, 30, 8)
    for at in range(30):
        layer.append(k[:, :, at : at + 1], v[:, :, at : at + 1], torch.arange(at, at + 1))
        layer.end_forward()
    segments = layer.segments(every_column(30))
    assert [(s.start, s.stop) for s in segments] == [(0, 8), (8, 16), (16, 24), (24, 28), (28, 30)]
    assert torch.equal(segments[-1].k, k[:, :, 28:]) and torch.equal(segments[-1].v, v[:, :, 28:])
    for s in segments[:-1]:
        for got, given in ((s.k, k), (s.v, v)):
            error = (got - given[:, :, s.start : s.stop]).abs()
            assert 0 < error.max() < 0.02


def test_offload_holds_one_block_beside_the_hot_ones_whatever_the_length() -> None:
    layer = layer_of("paged_offload", block=4, hot=2)
    k, v = torch.randn(2, 1, 4, 40, 8)
    held = set()
    for at in range(40):
        layer.append(k[:, :, at : at + 1], v[:, :, at : at + 1], torch.arange(at, at + 1))
        layer.end_forward()
        held.add(layer.nbytes())
    assert held == {(8 + 4) * 2 * 4 * 8 * 4}
    moved, block = layer.traffic(), 4 * 4 * 8 * 4
    assert (moved.transfers, moved.transferred_bytes) == (2 * 9, 2 * 9 * block)
    assert (moved.file_bytes, moved.host_bytes) == (2 * 9 * block, 0)
    for s in layer.segments(every_column(40)):
        assert torch.equal(s.k, k[:, :, s.start : s.stop])
        assert torch.equal(s.v, v[:, :, s.start : s.stop])
    assert layer.traffic().transfers == 2 * 2 * 9


def test_offload_leaves_away_what_a_window_cannot_see() -> None:
    net = tiny_decoder(pattern="sliding")  # the last five
    cache = make_cache("paged_offload", net, 1)
    with torch.inference_mode():
        net(random_ids(1, 21), cache)
        before = cache.layers[0].traffic().transfers
        net(random_ids(1, 1), cache)
    assert cache.layers[0].traffic().transfers == before + 2  # one block of five


def test_offload_goes_on_where_another_cache_ends() -> None:
    net, ids = tiny_decoder(), random_ids(1, 60)
    share = 4 * (4 + 4) * 2 * 4 * 8  # hot and room

    def limited(cache: str) -> Cache:
        spec = CacheSpec(1, 4, 8, 60, FP32, CPU, share)
        return Cache.make(lambda s: build("cache", cache, s), spec, 2)

    with pytest.raises(OverBudget, match="Contiguous takes .* 60 tokens"):
        limited("contiguous")
    with torch.inference_mode():
        torch.testing.assert_close(net(ids, limited("paged_offload")), net(ids))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("tier", [HostTier, FileTier])
def test_a_tier_gives_back_what_it_took(tier: type, dtype: torch.dtype) -> None:
    blocks = [torch.randn(2, batch, 4, 8, 16).to(dtype) for batch in (1, 3)]
    held = tier()
    for block in blocks:
        held.put(block)
    for index, block in reversed(list(enumerate(blocks))):
        for which in (1, 0):
            into = torch.empty_like(block[which])
            held.get(index, which, into)
            assert torch.equal(into, block[which])
    assert sum(held.nbytes()) == sum(block.nbytes for block in blocks)


def test_the_file_has_no_name_and_ends_with_its_tier(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    tier = FileTier()
    file = tier._file
    tier.put(torch.randn(2, 1, 4, 8, 16))
    assert not list(tmp_path.iterdir()) and not file.closed
    del tier
    assert file.closed


def test_contiguous_copies_what_rows_do_not_have_in_common(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beams of one prompt: a reorder copies the columns since two of them parted."""
    layer = layer_of("contiguous", SPEC._replace(batch=1))
    copied: list[int] = []
    note = layer._equal.reorder
    monkeypatch.setattr(
        layer._equal, "reorder", lambda *known: copied.append(note(*known)) or copied[-1]
    )
    texts = torch.randn(1, 4, 10, 8)

    def write(*columns: Tensor) -> None:
        nonlocal texts
        new = torch.cat(columns) if columns else torch.randn(len(texts), 4, 1, 8)
        texts = torch.cat((texts, new), 2)
        layer.append(new, new, torch.arange(1))

    def reorder(rows: list[int]) -> None:
        nonlocal texts
        texts = texts[rows]
        layer.reorder(torch.tensor(rows))
        [segment] = layer.segments(every_column(texts.shape[2]))
        assert torch.equal(segment.k, texts) and torch.equal(segment.v, texts)

    layer.append(texts, texts, torch.arange(10))
    reorder([0, 0, 0])
    write()
    reorder([1, 1, 0])
    assert copied[-1] == 10  # the prompt is common to all
    write()
    write()
    reorder([1, 0, 2])
    assert copied[-1] == 11  # rows 0 and 1 had one parent at column 11
    reorder([2, 2, 1])
    assert copied[-1] == 10
    write()
    reorder([0, 1, 0])
    assert copied[-1] == 10
    for _ in range(20):
        write()
        reorder(torch.randint(3, (3,)).tolist())
    reorder([0] * 20)
    write()
    reorder([3, 2, 1, 0])
