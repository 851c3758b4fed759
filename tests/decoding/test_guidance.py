"""Classifier-free guidance: its step, as transformers computes it, and with a net."""

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from micro_transformer.data.tokenizer import BOS, FIRST, PAD
from micro_transformer.decoding.beam import Beam
from micro_transformer.decoding.greedy import Greedy
from micro_transformer.decoding.guidance import Guided
from micro_transformer.generation import generate
from tests.conftest import build, facts, members, random_ids, tiny_decoder, tiny_encoder_decoder
from tests.decoding.tables import table_step
from tests.nn.test_encoder_decoder import padded_source

EXACT = [cache for cache in members("cache") if facts("cache", cache)["exact"]]


def written(logits: Tensor) -> Tensor:
    """Log-probabilities of the tokens that a text may have."""
    return logits.index_fill(-1, torch.arange(FIRST), float("-inf")).log_softmax(-1)


def test_scale_1_is_the_condition_and_0_is_none() -> None:
    tables = torch.randn(2, 8, 8)
    tables[0, :, 2], tables[1, :, 5] = float("-inf"), float("-inf")
    ids = torch.tensor([[3, 1], [2, 4]])
    for scale, table in ((1.0, tables[0]), (0.0, tables[1])):
        out = Guided(table_step(tables[0]), table_step(tables[1]), scale)(ids).logits
        expected = table[ids[:, -1]].log_softmax(-1)
        assert out[:, [2, 5]].isneginf().all()
        rest = [0, 1, 3, 4, 6, 7]
        torch.testing.assert_close(out[:, rest], expected[:, rest])


@pytest.mark.parametrize("scale", [0.0, 0.5, 1.5, 4.0])
def test_texts_equal_those_of_transformers(scale: float) -> None:
    transformers = pytest.importorskip("transformers", reason="the oracle is not installed")
    net, prompt = tiny_decoder().double(), random_ids(1, 6)
    net.embedding.weight.data *= 0.2

    def model(ids: Tensor, **_: object) -> SimpleNamespace:
        return SimpleNamespace(logits=written(net(ids)), get=lambda *_: None)

    oracle = transformers.generation.logits_process.UnbatchedClassifierFreeGuidanceLogitsProcessor(
        scale, model, use_cache=False
    )
    ids = prompt
    for _ in range(15):
        scores = oracle(ids, written(net(ids)[:, -1])).nan_to_num(nan=float("-inf"))
        ids = torch.cat((ids, scores.argmax(-1, keepdim=True)), 1)
    out = generate(
        net,
        prompt,
        Greedy(guidance_scale=scale),
        15,
        make_layer=lambda spec: build("cache", "contiguous", spec),
    )
    assert torch.equal(out, ids)


@pytest.mark.parametrize("cache", EXACT)
@pytest.mark.parametrize("decoding", [Greedy(guidance_scale=2.0), Beam(guidance_scale=2.0)])
def test_a_source_is_weighed_against_an_empty_one(cache: str, decoding: Greedy | Beam) -> None:
    """Each text is the one that its own rows give, and greedy ones follow full forwards."""
    net, source = tiny_encoder_decoder().double(), padded_source()
    prompt = torch.full((3, 1), BOS)
    options = {"make_layer": lambda spec: build("cache", cache, spec)}
    out = generate(net, prompt, decoding, 9, source=source, **options)  # type: ignore[arg-type]
    for row in range(3):
        own = slice(row, row + 1)
        alone = generate(net, prompt[own], decoding, 9, source=source[own], **options)  # type: ignore[arg-type]
        assert torch.equal(alone, out[own])
    if isinstance(decoding, Greedy):
        ids = prompt
        for _ in range(9):
            c = written(net(ids, source=source)[:, -1])
            u = written(net(ids, source=torch.full_like(source, PAD))[:, -1])
            scores = (u + 2 * (c - u)).nan_to_num(nan=float("-inf"))
            ids = torch.cat((ids, scores.argmax(-1, keepdim=True)), 1)
        assert torch.equal(out, ids)


def test_a_source_is_hidden_in_training_alone() -> None:
    net, source = tiny_encoder_decoder(), padded_source()
    net.source_dropout = 0.5
    ids, nothing = random_ids(3, 4), torch.full_like(source, PAD)
    net.eval()
    with_it, without = net(ids, source=source), net(ids, source=nothing)
    assert torch.equal(net(ids, source=source), with_it)
    net.train()
    hidden = [0, 0]
    for _ in range(100):
        out = net(ids, source=source)
        for a, b, c in zip(out, with_it, without, strict=True):
            is_hidden = torch.allclose(a, c, atol=1e-5)
            assert is_hidden or torch.allclose(a, b, atol=1e-5)
            hidden[is_hidden] += 1
    assert 100 < hidden[1] < 200
