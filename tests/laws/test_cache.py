"""Laws of caches: cached, chunked and full forward are one function."""

import pytest
import torch
from torch import Tensor

from micro_transformer.generation import positions
from micro_transformer.nn.cache.base import CacheSpec
from tests.conftest import build, make_cache, members, random_ids, tiny_decoder

POSENCS, CACHES = members("posenc"), members("cache")
LENGTH = 12
CHUNKINGS = {"ones": [1] * LENGTH, "all": [LENGTH], "mixed": [3, 1, 5, 2, 1], "late": [11, 1]}


def in_chunks(
    net: torch.nn.Module, ids: Tensor, cache_name: str, chunks: list[int], pos: Tensor | None
) -> Tensor:
    """Logits by chunk; a cache that stores nothing is given all tokens each time."""
    cache, outs, start = make_cache(cache_name, net, len(ids)), [], 0
    for size in chunks:
        stop = start + size
        if cache.stores:
            # Later positions follow from the first ones.
            given = pos[:, :stop] if pos is not None and start == 0 else None
            outs.append(net(ids[:, start:stop], cache, given))
        else:
            outs.append(
                net(ids[:, :stop], cache, None if pos is None else pos[:, :stop])[:, start:]
            )
        start = stop
    return torch.cat(outs, 1)


@pytest.mark.parametrize("chunking", CHUNKINGS)
@pytest.mark.parametrize("cache", CACHES)
@pytest.mark.parametrize("posenc", POSENCS)
def test_cached_and_chunked_equal_full(posenc: str, cache: str, chunking: str) -> None:
    net, ids = tiny_decoder(posenc), random_ids(2, LENGTH)
    out = in_chunks(net, ids, cache, CHUNKINGS[chunking], None)
    torch.testing.assert_close(out, net(ids), rtol=0, atol=2e-4)


@pytest.mark.parametrize("chunks", [[3, 1, 1, 1, 6], [5, 7], [4, 2, 6]])
@pytest.mark.parametrize("cache", CACHES)
@pytest.mark.parametrize("posenc", POSENCS)
def test_cached_and_chunked_equal_full_with_left_pads(
    posenc: str, cache: str, chunks: list[int]
) -> None:
    net, ids = tiny_decoder(posenc), random_ids(3, LENGTH)
    ids[0, :2] = 0
    ids[1, :1] = 0
    pos, real = positions(ids), ids != 0
    out = in_chunks(net, ids, cache, chunks, pos)
    torch.testing.assert_close(out[real], net(ids, pos=pos)[real], rtol=0, atol=2e-4)


@pytest.mark.parametrize("cache", CACHES)
def test_reorder_moves_rows_and_drops_the_rest(cache: str) -> None:
    net, ids, rows = tiny_decoder(), random_ids(3, LENGTH), torch.tensor([2, 0])
    ids[2, :2] = 0
    if not make_cache(cache, net, 3).stores:
        pytest.skip("it holds nothing to reorder")
    pos = positions(ids)
    held = make_cache(cache, net, 3)
    net(ids[:, :-1], held, pos[:, :-1])
    held.reorder(rows)
    out = net(ids[rows, -1:], held)
    expected = net(ids[rows], pos=pos[rows])[:, -1:]
    torch.testing.assert_close(out, expected, rtol=0, atol=2e-4)


@pytest.mark.parametrize("cache", CACHES)
def test_reorder_of_as_many_rows_may_repeat_one(cache: str) -> None:
    net, ids, rows = tiny_decoder(), random_ids(3, LENGTH), torch.tensor([1, 1, 0])
    held = make_cache(cache, net, 3)
    if not held.stores:
        pytest.skip("it holds nothing to reorder")
    net(ids[:, :-1], held)
    held.reorder(rows)
    out = net(ids[rows, -1:], held)
    torch.testing.assert_close(out, net(ids[rows])[:, -1:], rtol=0, atol=2e-4)


def test_contiguous_takes_its_bytes_once_and_refuses_more_tokens_than_fit() -> None:
    spec = CacheSpec(2, 4, 8, 6, torch.float32, torch.device("cpu"))
    layer = build("cache", "contiguous", spec)
    taken = layer.nbytes()
    assert taken == 2 * (2 * 4 * 6 * 8) * 4
    k = v = torch.randn(2, 4, 5, 8)
    layer.append(k, v, torch.arange(5))
    assert layer.nbytes() == taken
    [(held_k, _, k_pos)] = layer.segments()
    assert torch.equal(held_k, k) and k_pos.tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="7 tokens do not fit a cache of max_len=6"):
        layer.append(k[:, :, :2], v[:, :, :2], torch.arange(5, 7))


def test_no_cache_holds_no_bytes() -> None:
    net = tiny_decoder()
    cache = make_cache("none", net, 1)
    net(random_ids(1, 5), cache)
    assert (cache.nbytes(), cache.length, cache.stores) == (0, 0, False)
