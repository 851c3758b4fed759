"""A row of a batch is what it is alone, for every strategy and cache; in float64, since rounding
differs by batch size."""

import pytest
from torch import Tensor

from micro_transformer.data.tokenizer import EOS, PAD
from micro_transformer.generation import generate
from micro_transformer.nn.arch.decoder import DecoderLM
from tests.conftest import build, facts, members, random_ids, tiny_decoder

CACHES, DECODERS = members("cache"), members("decoding")
LOSSLESS = [cache for cache in CACHES if "logit_error" not in facts("cache", cache)]
NUMBERS, ORDER = [4, 9, 0, 7], [2, 0, 3, 1]


def ending_net() -> DecoderLM:
    """Its texts end after different numbers of tokens."""
    net = tiny_decoder(key_shift=True).double()
    net.embedding.weight.data *= 0.2
    net.head.weight.data[EOS] *= 1.5
    return net


def texts(net: DecoderLM, prompt: Tensor, rows: list[int], decoding: str, cache: str) -> list[str]:
    """The text after each prompt, without what follows its end."""
    out = generate(
        net,
        prompt,
        build("decoding", decoding),
        16,
        make_layer=lambda spec: build("cache", cache, spec),
        seed=3,
        rows=rows,
        eos=EOS,
    )
    return [str([id for id in row.tolist() if id != PAD]) for row in out]


@pytest.mark.parametrize("decoding", DECODERS)
@pytest.mark.parametrize("cache", CACHES)
def test_a_row_is_what_it_is_alone(cache: str, decoding: str) -> None:
    """Also in another order, and after rows that ended have left."""
    net, prompt = ending_net(), random_ids(4, 5)
    together = texts(net, prompt, NUMBERS, decoding, cache)
    alone = [texts(net, prompt[i : i + 1], NUMBERS[i : i + 1], decoding, cache) for i in range(4)]
    assert [[text] for text in together] == alone
    assert len({text.count(",") for text in together}) > 1  # they end apart
    moved = texts(net, prompt[ORDER], [NUMBERS[i] for i in ORDER], decoding, cache)
    assert moved == [together[i] for i in ORDER]


@pytest.mark.parametrize("decoding", DECODERS)
@pytest.mark.parametrize("cache", LOSSLESS)
def test_a_padded_row_is_what_it_is_alone_without_its_pads(cache: str, decoding: str) -> None:
    net, prompt = ending_net(), random_ids(3, 5)
    prompt[0, :3] = PAD
    together = texts(net, prompt, [0, 1, 2], decoding, cache)
    assert together[:1] == texts(net, prompt[:1, 3:], [0], decoding, cache)
    assert together[2:] == texts(net, prompt[2:], [2], decoding, cache)
