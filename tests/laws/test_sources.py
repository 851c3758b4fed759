"""Laws of decoding from a source: cached, reordered and batched decoding are one function."""

import pytest
import torch
from torch import Tensor

from micro_transformer.data.tokenizer import BOS, EOS, FIRST, PAD
from micro_transformer.decoding.base import Step, StepOutput
from micro_transformer.decoding.greedy import Greedy
from micro_transformer.generation import ModelStep, generate
from micro_transformer.nn.arch.encoder_decoder import EncoderDecoder
from micro_transformer.nn.padding import positions
from micro_transformer.nn.visibility import all_of
from tests.conftest import build, facts, make_cache, members, random_ids, tiny_encoder_decoder
from tests.laws.test_cache import assert_equal, spec
from tests.nn.test_encoder_decoder import padded_source

POSENCS, KERNELS, CACHES = members("posenc"), members("attention"), members("cache")
DECODERS = members("decoding")
EXACT = [cache for cache in CACHES if facts("cache", cache)["exact"]]
LOSSLESS = [cache for cache in CACHES if "logit_error" not in facts("cache", cache)]
LENGTH = 13
ROWS = [[2, 0], [1, 1, 0], [2], [0, 0, 1, 1, 2, 2], [0, 0, 2, 1, 2], [1, 1, 1], [1, 0, 2]]


def claimed(net: EncoderDecoder, cache: str, ids: Tensor, source: Tensor) -> Tensor:
    """Logits, without the cache, of the function that the cache claims to compute."""
    visibility = net.visibility
    net.visibility = all_of(visibility, build("cache", cache, spec()).visibility)
    try:
        return net(ids, pos=positions(ids), source=source)
    finally:
        net.visibility = visibility


@pytest.mark.parametrize("chunks", [[1] * LENGTH, [LENGTH], [3, 1, 5, 2, 2], [LENGTH - 1, 1]])
@pytest.mark.parametrize("cache", [cache for cache in CACHES if cache != "sink"])
@pytest.mark.parametrize("posenc", POSENCS)
@pytest.mark.parametrize("pads", [0, 2])
@torch.inference_mode()
def test_cached_and_chunked_equal_full(
    posenc: str, cache: str, chunks: list[int], pads: int
) -> None:
    """`sink` has positions of its own, in a law of its own (tests/laws/test_cache.py)."""
    net, source, ids = tiny_encoder_decoder(posenc), padded_source(), random_ids(3, LENGTH)
    ids[0, : min(pads, chunks[0] - 1)] = PAD
    held, memory = make_cache(cache, net, 3, LENGTH), net.encode(source)
    outs, start = [], 0
    for size in chunks:
        stop = start + size
        first = 0 if not held.stores else start
        pos = positions(ids[:, :stop]) if first == 0 else None
        outs.append(net(ids[:, first:stop], held, pos, memory=memory)[:, start - first :])
        start = stop
    real = ids != PAD
    assert_equal(cache, torch.cat(outs, 1)[real], claimed(net, cache, ids, source)[real])


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("kv_heads", [None, 2])
@pytest.mark.parametrize("rows", ROWS)
@torch.inference_mode()
def test_reordered_rows_read_their_own_source(
    rows: list[int], kv_heads: int | None, kernel: str
) -> None:
    """Rows shrink, grow and change places, twice, with other targets after each time."""
    net = tiny_encoder_decoder(attention=kernel, num_kv_heads=kv_heads).double()
    source = padded_source()
    memory = net.encode(source)
    for num_tokens in (1, 4):
        order = torch.tensor(rows) % len(source)
        memory, source = memory.reorder(order), source[order]
        ids = random_ids(len(rows), num_tokens)
        out, weights = net.hidden_and_source_attention(ids, None, None, memory)
        expected = net.hidden_and_source_attention(ids, None, None, net.encode(source))
        torch.testing.assert_close(out, expected[0], rtol=0, atol=1e-10)
        torch.testing.assert_close(weights, expected[1], rtol=0, atol=1e-10)


def test_rows_of_a_beam_share_the_keys_of_their_source() -> None:
    """Nothing is copied as rows of a source change places; sources without rows are dropped."""
    memory = tiny_encoder_decoder().encode(padded_source())
    beams = memory.reorder(torch.tensor([0, 0, 1, 1, 2, 2]))
    assert beams.layers is memory.layers and beams.layer(1) is memory.layer(1)
    assert beams.reorder(torch.tensor([1, 0, 2, 2, 5, 4])) is beams
    fewer = beams.reorder(torch.tensor([0, 1, 5, 4]))
    assert fewer.rows.tolist() == [0, 0, 1, 1]
    assert fewer.layer(0)[0] is fewer.layers[0][0] and len(fewer.pos) == 2


def test_a_source_is_read_once() -> None:
    net, calls = tiny_encoder_decoder(), []
    projections = [block.cross_attention.kv_proj for block in net.decoder.blocks]
    for module in (net.encoder, *projections):
        module.register_forward_hook(lambda module, *_: calls.append(module))
    prompt, source = random_ids(3, 2), padded_source()
    made = lambda s: build("cache", "contiguous", s)  # noqa: E731
    generate(net, prompt, Greedy(), 9, make_layer=made, source=source)
    assert calls == [net.encoder, *projections]


@pytest.mark.parametrize("cache", EXACT)
@pytest.mark.parametrize("posenc", POSENCS)
def test_greedy_is_the_argmax_of_full_forwards(posenc: str, cache: str) -> None:
    net, ids, source = tiny_encoder_decoder(posenc), random_ids(3, 2), padded_source()
    made = lambda s: build("cache", cache, s)  # noqa: E731
    out = generate(net, ids, Greedy(), 8, make_layer=made, source=source)
    for _ in range(8):
        logits = net(ids, source=source)[:, -1]
        logits[:, :FIRST] = float("-inf")
        ids = torch.cat((ids, logits.argmax(-1, keepdim=True)), 1)
    assert torch.equal(out, ids)


@pytest.mark.parametrize("decoding", DECODERS)
@pytest.mark.parametrize("cache", LOSSLESS)
def test_a_padded_source_gives_the_text_that_it_gives_alone(cache: str, decoding: str) -> None:
    """Also after rows that ended have left."""
    net, source = tiny_encoder_decoder(key_shift=True).double(), padded_source(4)
    net.embedding.weight.data *= 0.2
    net.head.weight.data[EOS] *= -2  # so that texts end apart

    def texts(source: Tensor, rows: list[int]) -> list[list[int]]:
        out = generate(
            net,
            torch.full((len(source), 1), BOS),
            build("decoding", decoding),
            16,
            make_layer=lambda s: build("cache", cache, s),
            rows=rows,
            eos=EOS,
            source=source,
        )
        return [[id for id in row if id != PAD] for row in out.tolist()]

    together = texts(source, [0, 1, 2, 3])
    assert len({len(text) for text in together}) > 1  # they end apart
    for i, row in enumerate(source):
        assert texts(row[row != PAD][None], [i]) == [together[i]]


@pytest.mark.parametrize("kv_heads", [None, 2])
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("cache", ["contiguous", "none"])
@torch.inference_mode()
def test_source_attention_is_that_of_the_last_layer_by_hand(
    cache: str, kernel: str, kv_heads: int | None
) -> None:
    """The mean over heads of the weights that the kernel by hand forms at the last token."""
    net = tiny_encoder_decoder(attention=kernel, num_kv_heads=kv_heads)
    source, ids, seen = padded_source(), random_ids(3, 4), []
    source[2] = PAD
    step = ModelStep(
        net,
        lambda s: build("cache", cache, s),
        max_len=20,
        source=source,
        weigh_source=True,
    )
    rows = torch.tensor([1, 1, 0, 2])
    found = [step(ids), step(ids[rows, -1:], rows)]
    source, ids = source[rows], ids[rows]
    net.use_kernel(lambda: build("attention", "manual"))
    weights = net.decoder.blocks[-1].cross_attention.kernel.weights
    weights.register_forward_hook(lambda module, args, out: seen.append(out[:, :, -1]))
    net(torch.cat((ids, ids[:, -1:]), 1), source=source)
    given = found[1].source_attention
    assert given is not None and given.shape == (4, 7)
    torch.testing.assert_close(given, seen[0].mean(1), rtol=0, atol=1e-6)
    assert (given[source == PAD] == 0).all() and (given[source != PAD] > 0).all()
    torch.testing.assert_close(given.sum(1), torch.tensor([1.0, 1.0, 1.0, 0.0]))
    assert type(net.decoder.blocks[0].cross_attention.q) is torch.nn.Identity
    assert not net.decoder.blocks[-1].cross_attention.q._forward_hooks


def test_source_attention_is_given_when_asked() -> None:
    net, source, found = tiny_encoder_decoder(), padded_source(), []

    def watch(step: Step) -> Step:
        def watched(ids: Tensor, parents: Tensor | None = None) -> StepOutput:
            found.append(step(ids, parents))
            return found[-1]

        return watched

    for weigh in (False, True):
        generate(
            net,
            random_ids(3, 2),
            Greedy(),
            3,
            make_layer=lambda s: build("cache", "contiguous", s),
            source=source,
            weigh_source=weigh,
            watch=watch,
        )
    assert [out.source_attention is not None for out in found] == [False] * 3 + [True] * 3


def test_a_step_starts_again_with_its_source() -> None:
    net, source, ids = tiny_encoder_decoder(), padded_source(), random_ids(3, 2)
    step = ModelStep(net, lambda s: build("cache", "paged", s), max_len=9, source=source)
    with torch.inference_mode():
        first = step(ids).logits
        step(ids[:, :1], torch.tensor([2, 2, 0]))
        step.restart()
        assert torch.equal(step(ids).logits, first)


@pytest.mark.parametrize(("source", "said"), [
    (random_ids(2, 4), "source: has 2 rows, the prompt 3; give one per row"),
    (random_ids(3, 65), "source: its 65 tokens pass the 64 positions of the learned table"),
    (torch.full((3, 4), 20), "source: id 20 is not in the vocabulary of 20"),
])  # fmt: skip
def test_a_wrong_source_is_refused_in_one_line(source: Tensor, said: str) -> None:
    net = tiny_encoder_decoder("learned")
    made = lambda s: build("cache", "contiguous", s)  # noqa: E731
    with pytest.raises(ValueError, match=said):
        generate(net, random_ids(3, 2), Greedy(), 3, make_layer=made, source=source)
