"""Laws of caches: cached, chunked and full forward are one function.

An inexact cache computes another function (e.g. with a window); it is compared with that function
computed without a cache. A quantized cache states its error as `logit_error`.
"""

import re

import pytest
import torch
from torch import Tensor

from micro_transformer.generation import positions
from micro_transformer.nn.arch.decoder import DecoderLM
from micro_transformer.nn.cache.base import Cache, CacheSpec, OverBudget
from micro_transformer.nn.cache.paged import EXTENDED
from micro_transformer.nn.visibility import CAUSAL, EVERYTHING, Wanted, Window, all_of
from tests.conftest import (
    SMALL,
    build,
    every_column,
    facts,
    make_cache,
    members,
    random_ids,
    rotated,
    tiny_decoder,
)

CACHES = members("cache")
PATTERNS = [name for name in members("pattern") if facts("pattern", name)["causal"]]
POSITIONS = [(p, "none") for p in members("posenc")]
POSITIONS += [("rope", s) for s in members("scaling") if s != "none"]
LENGTH, TRAINED = 13, 6
CHUNKINGS = {
    "ones": [1] * LENGTH,
    "all": [LENGTH],
    "mixed": [3, 1, 5, 2, 2],
    "late": [LENGTH - 1, 1],
    "borders": [3, 1, 1, 2, 1, 4, 1],  # lengths 3, 4, 5 and 7, 8, 12: around block borders of 4
}
TOLERANCE = {"rtol": 0, "atol": 2e-4}


def assert_equal(cache: str, out: Tensor, expected: Tensor) -> None:
    """Fails unless logits equal the expected ones, within the error that the class states."""
    share = facts("cache", cache).get("logit_error")
    allowed = TOLERANCE if share is None else {"rtol": 0, "atol": share * expected.std().item()}
    torch.testing.assert_close(out, expected, **allowed)


def net_of(
    posenc: str, scaling: str = "none", pattern: str = "full", **changes: object
) -> DecoderLM:
    net = tiny_decoder(posenc, pattern=pattern, **changes)
    if net.posenc.scalable:
        net.posenc.stretch(build("scaling", scaling), original_len=TRAINED)
    return net


def in_chunks(
    net: DecoderLM, ids: Tensor, cache_name: str, chunks: list[int], pos: Tensor | None = None
) -> Tensor:
    """Logits, chunk by chunk; a cache that stores nothing gets all tokens in each call."""
    cache, outs, start = make_cache(cache_name, net, len(ids), ids.shape[1]), [], 0
    for size in chunks:
        stop = start + size
        if cache.stores:
            # Positions are given for the first chunk only; later ones continue them.
            given = pos[:, :stop] if pos is not None and start == 0 else None
            outs.append(net(ids[:, start:stop], cache, given))
        else:
            outs.append(
                net(ids[:, :stop], cache, None if pos is None else pos[:, :stop])[:, start:]
            )
        start = stop
    return torch.cat(outs, 1)


def claimed(net: DecoderLM, cache: str, ids: Tensor, pos: Tensor | None = None) -> Tensor:
    """Reference logits, without the cache, of the function that the cache claims to compute."""
    if cache == "sink":  # the one cache with positions of its own
        real = torch.ones_like(ids, dtype=torch.bool) if pos is None else pos >= 0
        rows = [streamed(net, row[seen]) for row, seen in zip(ids, real, strict=True)]
        size = ids.shape[1]
        return torch.stack([torch.cat((r.new_zeros(size - len(r), 20), r)) for r in rows])
    visibility = net.visibility
    net.visibility = all_of(visibility, build("cache", cache, spec()).visibility)
    try:
        return net(ids, pos=pos)
    finally:
        net.visibility = visibility


def streamed(net: DecoderLM, ids: Tensor) -> Tensor:
    """Reference logits of StreamingLLM as its authors implement it.

    One token per step; keys are cached unrotated, and all are rotated at every step by their
    indices in the cache.
    """
    sinks, width = SMALL["sinks"], SMALL["window"]
    held: list[tuple[list[Tensor], list[Tensor]]] = [([], []) for _ in net.blocks()]
    outs = []
    for at, token in enumerate(ids):
        x = net.posenc.embed(net.embedding(token)[None, None], torch.tensor([at]))
        for block, (keys, values) in zip(net.blocks(), held, strict=True):
            attention = block.attention
            qkv = attention.qkv(block.attention_norm(x)).view(3, attention.num_heads, 1, -1)
            q, k = attention.qk_norm(qkv[:2])
            keys.append(k)
            values.append(qkv[2])
            if len(keys) > sinks + width:
                del keys[sinks], values[sinks]
            k, v = torch.cat(keys, 1)[None], torch.cat(values, 1)[None]
            places = torch.arange(len(keys))
            here = places[-1:]
            q = rotated(net.posenc, q[None], here, len(ids))
            k = rotated(net.posenc, k, places, len(ids))
            scale = net.posenc.score_scale(len(ids)) / attention.head_dim**0.5
            scores = q @ k.mT * scale
            bias = net.posenc.bias(here, places)
            scores = scores if bias is None else scores + bias
            seen = net.visibility.visible(here[:0], here[:0], here[:, None], places)
            scores = scores.masked_fill(~seen, float("-inf"))
            out = (scores.softmax(-1) @ v).transpose(1, 2).reshape(1, 1, -1)
            x = x + attention.out(out)
            x = x + block.ffn(block.ffn_norm(x))
        outs.append(net.head(net.stack.norm(x))[0, 0])
    return torch.stack(outs)


@pytest.mark.parametrize("chunking", CHUNKINGS)
@pytest.mark.parametrize("cache", CACHES)
@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize(("posenc", "scaling"), POSITIONS)
@torch.inference_mode()
def test_cached_and_chunked_equal_full(
    posenc: str, scaling: str, pattern: str, cache: str, chunking: str
) -> None:
    net, ids = net_of(posenc, scaling, pattern), random_ids(2, LENGTH)
    out = in_chunks(net, ids, cache, CHUNKINGS[chunking])
    assert_equal(cache, out, claimed(net, cache, ids))


@pytest.mark.parametrize("chunks", [[3, 1, 1, 1, 7], [5, 8], [4, 2, 7], [1] * 13])
@pytest.mark.parametrize("cache", CACHES)
@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize(("posenc", "scaling"), POSITIONS)
@torch.inference_mode()
def test_cached_and_chunked_equal_full_with_left_pads(
    posenc: str, scaling: str, pattern: str, cache: str, chunks: list[int]
) -> None:
    if scaling == "dynamic_ntk" and cache == "sink":
        pytest.skip("the row without its pads would be planned shorter")
    net, ids = net_of(posenc, scaling, pattern), random_ids(3, LENGTH)
    pads = min(chunks[0], 3)
    ids[0, : pads - 1] = 0
    ids[1, : max(0, pads - 2)] = 0
    pos, real = positions(ids), ids != 0
    out = in_chunks(net, ids, cache, chunks, pos)
    assert_equal(cache, out[real], claimed(net, cache, ids, pos)[real])


@pytest.mark.parametrize("chunking", CHUNKINGS)
@pytest.mark.parametrize("cache", CACHES)
@torch.inference_mode()
def test_shifted_keys_are_carried_over_chunks(cache: str, chunking: str) -> None:
    if cache == "sink":
        pytest.skip("the reference above has no shift")
    net, ids = net_of("rope", key_shift=True), random_ids(2, LENGTH)
    out = in_chunks(net, ids, cache, CHUNKINGS[chunking])
    assert_equal(cache, out, claimed(net, cache, ids))
    ids[0, :1] = 0
    pos = positions(ids)
    out = in_chunks(net, ids, cache, [4, 1, 8], pos)
    assert_equal(cache, out[:, 1:], claimed(net, cache, ids, pos)[:, 1:])


@pytest.mark.parametrize("rows", [[2, 0], [1, 1, 0], [2], [0, 0, 2, 1, 2], [1, 1, 1]])
@pytest.mark.parametrize("held", [3, 4, 5, 11])
@pytest.mark.parametrize("cache", CACHES)
@torch.inference_mode()
def test_reorder_moves_rows_to_any_number_of_rows(cache: str, held: int, rows: list[int]) -> None:
    """Two reorders, with different tokens per row in between: rows must not overwrite others."""
    net, ids = tiny_decoder(key_shift=cache != "sink"), random_ids(3, LENGTH)
    store = make_cache(cache, net, 3)
    if not store.stores:
        pytest.skip("it holds nothing to reorder")
    net(ids[:, :held], store)
    for _ in range(2):
        order = torch.tensor(rows) % len(ids)
        store.reorder(order)
        assert all(0 <= layer.used_nbytes() <= layer.nbytes() for layer in store.layers)
        ids = torch.cat((ids[order, :held], random_ids(len(rows), 1)), 1)
        out = net(ids[:, -1:], store)
        held += 1
        assert_equal(cache, out, claimed(net, cache, ids)[:, -1:])


@pytest.mark.parametrize("cache", CACHES)
@torch.inference_mode()
def test_reorder_of_rows_with_pads(cache: str) -> None:
    net, ids, rows = tiny_decoder(), random_ids(3, LENGTH), torch.tensor([2, 0])
    ids[2, :2] = 0
    store = make_cache(cache, net, 3)
    if not store.stores:
        pytest.skip("it holds nothing to reorder")
    pos = positions(ids)
    net(ids[:, :-1], store, pos[:, :-1])
    store.reorder(rows)
    out = net(ids[rows, -1:], store)
    assert_equal(cache, out, claimed(net, cache, ids[rows], pos[rows])[:, -1:])


@pytest.mark.parametrize("cache", CACHES)
def test_nothing_moves_where_all_rows_stay(cache: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = make_cache(cache, tiny_decoder(), 3)
    for layer in store.layers:
        monkeypatch.setattr(layer, "reorder", lambda rows: pytest.fail("it moves rows"))
    store.reorder(torch.arange(3))


def spec(batch: int = 2, max_len: int = 6) -> CacheSpec:
    return CacheSpec(batch, 4, 8, max_len, torch.float32, torch.device("cpu"))


def test_contiguous_takes_its_bytes_once_and_refuses_more_tokens_than_fit() -> None:
    layer = build("cache", "contiguous", spec())
    taken = layer.nbytes()
    assert taken == 2 * (2 * 4 * 6 * 8) * 4
    k = v = torch.randn(2, 4, 5, 8)
    layer.append(k, v, torch.arange(5))
    assert layer.nbytes() == taken
    [segment] = layer.segments(every_column(5))
    assert torch.equal(segment.k, k) and (segment.start, segment.stop) == (0, 5)
    with pytest.raises(ValueError, match="7 tokens do not fit a cache of max_len=6"):
        layer.append(k[:, :, :2], v[:, :, :2], torch.arange(5, 7))


def test_no_cache_holds_no_bytes() -> None:
    net = tiny_decoder()
    cache = make_cache("none", net, 1)
    net(random_ids(1, 5), cache)
    assert (cache.nbytes(), cache.length, cache.stores) == (0, 0, False)


@pytest.mark.parametrize("tokens", [1, 3, 4, 5, 8, 9, 70, 130])
def test_paged_holds_as_many_blocks_as_its_tokens_need(tokens: int) -> None:
    layer = build("cache", "paged", spec(batch=1, max_len=200))
    k = torch.randn(1, 4, tokens, 8)
    for part in k.split(1, 2):
        layer.append(part, -part, torch.arange(1))
    blocks = -(-tokens // 4)
    assert layer.num_blocks == blocks
    assert layer.nbytes() == blocks * 2 * 4 * 4 * 8 * 4
    segments = layer.segments(every_column(tokens))
    assert len(segments) == -(-blocks // EXTENDED)  # a slab is extended up to a number of blocks
    assert torch.equal(torch.cat([s.k for s in segments], 2), k)
    assert torch.equal(torch.cat([s.v for s in segments], 2), -k)


def test_paged_rows_share_blocks_until_one_writes_and_free_them_when_they_end() -> None:
    layer = build("cache", "paged", spec(batch=1, max_len=100))
    layer.append(*torch.randn(2, 1, 4, 6, 8), torch.arange(6))
    layer.reorder(torch.tensor([0, 0, 0]))
    assert layer.num_blocks == 2
    layer.append(*torch.randn(2, 3, 4, 1, 8), torch.arange(1))
    assert layer.num_blocks == 4  # the full block is shared, the partial one is copied twice
    assert len({table[0] for table in layer.table}) == 1
    layer.reorder(torch.tensor([1]))
    assert len(layer.free) == 2
    layer.append(*torch.randn(2, 1, 4, 4, 8), torch.arange(4))
    assert layer.num_blocks == 4  # a freed block is reused


def test_paged_copies_no_block_of_rows_in_order_or_of_one_parent() -> None:
    layer = build("cache", "paged", spec(batch=3, max_len=100))
    k = torch.randn(3, 4, 14, 8)

    def read(num_queries: int) -> list[bool]:
        """Of each segment, whether it is a view of the pool."""
        held = {slab.untyped_storage().data_ptr() for slab in layer.pool.slabs}
        columns = range(layer._length)
        segments = layer.segments(Wanted(EVERYTHING, columns[-num_queries:], columns))
        return [s.k.untyped_storage().data_ptr() in held for s in segments]

    layer.append(k, k, torch.arange(14))
    assert read(1) == read(2) == [True]
    layer.reorder(torch.tensor([1, 1, 1]))
    assert read(1) == read(2) == [True]
    layer.append(k[:, :, :4], k[:, :, :4], torch.arange(14, 18))
    assert read(2)[0]
    both = layer.segments(Wanted(EVERYTHING, range(16, 18), range(18)))
    assert [s.shared for s in both] == [True, *[False] * (len(both) - 1)]
    got = torch.cat([s.k.expand(3, -1, -1, -1) for s in both], 2)
    assert torch.equal(got, torch.cat((k[[1, 1, 1]], k[:, :, :4]), 2))


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("pads", [0, 2])
@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("posenc", members("posenc"))
@torch.inference_mode()
def test_a_shuffled_block_table_computes_the_same(
    posenc: str, pattern: str, pads: int, rows: int, apart: bool
) -> None:
    """Blocks of a text anywhere in the pool, in each layer elsewhere; apart: also in other rows of
    the pool, where they must be copied."""
    net, ids = net_of(posenc, pattern=pattern), random_ids(rows, 22)
    ids[:1, :pads] = 0
    pos, real = positions(ids), ids != 0
    cache = make_cache("paged", net, rows)
    net(ids, cache)
    cache = cache.reset()
    for layer in cache.layers:
        order = torch.randperm(len(layer.free) if apart else len(layer.free) // rows).tolist()
        blocks = layer.free if apart else [layer.free[i * rows : (i + 1) * rows] for i in order]
        layer.free = [layer.free[i] for i in order] if apart else sum(blocks, [])
    outs = [
        net(ids[:, :9], cache, pos[:, :9]),
        *(net(ids[:, i : i + 1], cache) for i in range(9, 22)),
    ]
    out, expected = torch.cat(outs, 1), net(ids, pos=pos)
    torch.testing.assert_close(out[real], expected[real], **TOLERANCE)


def test_one_query_reads_a_shuffled_table_as_one_view() -> None:
    layer = build("cache", "paged", spec(batch=1, max_len=100))
    k = torch.randn(1, 4, 16, 8)
    layer.append(k, k, torch.arange(16))
    layer.reset()
    layer.free = [2, 0, 3, 1]  # taken from the end
    layer.append(k, -k, torch.arange(16))
    [segment] = layer.segments(every_column(16))
    assert segment.columns.tolist() == [*range(8, 12), *range(4), *range(12, 16), *range(4, 8)]
    assert torch.equal(segment.k, k[:, :, segment.columns])
    assert torch.equal(segment.v, -k[:, :, segment.columns])
    assert (
        segment.k.untyped_storage().data_ptr() == layer.pool.slabs[0].untyped_storage().data_ptr()
    )


def test_a_window_skips_blocks_that_it_cannot_see() -> None:
    layer = build("cache", "paged", spec(batch=1, max_len=100))
    layer.append(*torch.randn(2, 1, 4, 14, 8), torch.arange(14))
    window = Wanted(all_of(CAUSAL, Window(5)), range(13, 14), range(14))
    assert [(s.start, s.stop) for s in layer.segments(window)] == [(8, 14)]
    assert [(s.start, s.stop) for s in layer.segments(every_column(14))] == [(0, 14)]


@pytest.mark.parametrize(
    ("cache", "kept"), [("sliding", range(8, 13)), ("sink", [0, 1, *range(8, 13)])]
)
def test_what_is_kept_at_the_end(cache: str, kept: list[int]) -> None:
    for chunks in ([LENGTH], [1] * LENGTH, [5, 1, 7]):
        layer, k = build("cache", cache, spec(batch=1, max_len=100)), torch.randn(1, 4, LENGTH, 8)
        start = 0
        for size in chunks:
            stop = start + size
            layer.append(k[:, :, start:stop], k[:, :, start:stop], torch.arange(start, stop))
            layer.end_forward()
            start = stop
        segments = layer.segments(every_column(LENGTH))
        held = [c for s in segments for c in range(s.start, s.stop)]
        assert held == list(kept)
        got = torch.cat([s.k for s in segments], 2)
        assert torch.equal(got, k[:, :, held])
        assert layer.nbytes() == 2 * len(held) * 4 * 8 * 4


@pytest.mark.parametrize("cache", [c for c in CACHES if facts("cache", c)["stores"]])
def test_a_budget_ends_what_would_hold_more(cache: str) -> None:
    """At creation if all memory is allocated then, otherwise at the token that passes the limit."""
    net, ids = tiny_decoder(), random_ids(1, LENGTH)
    free = make_cache(cache, net, 1, LENGTH)
    net(ids, free)
    for share, fits in ((free.nbytes() // 2, True), (free.nbytes() // 2 - 1, False)):
        limited = CacheSpec(1, 4, 8, LENGTH, torch.float32, torch.device("cpu"), share)
        raised = None
        try:
            held = Cache.make(lambda s: build("cache", cache, s), limited, 2)  # noqa: B023
            net(ids, held)
        except OverBudget as error:
            raised = error
        assert (raised is None) == fits
        if raised is not None:
            assert re.search(r"takes .* MB @ 13 tokens, budget.kv_mb=.*; raise it", str(raised))
