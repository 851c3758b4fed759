"""Generation: a model, a cache and a strategy bound together."""

from collections.abc import Callable

import pytest
import torch

from micro_transformer import generation
from micro_transformer.data.tokenizer import EOS, FIRST, PAD
from micro_transformer.decoding.base import Step
from micro_transformer.decoding.greedy import Greedy
from micro_transformer.generation import ModelStep, generate, positions
from micro_transformer.nn.cache.base import CacheLayer, CacheSpec
from tests.conftest import build, facts, members, random_ids, tiny_decoder

POSENCS, CACHES, DECODERS = members("posenc"), members("cache"), members("decoding")
EXACT = [cache for cache in CACHES if facts("cache", cache)["exact"]]
LOSSLESS = [cache for cache in CACHES if "logit_error" not in facts("cache", cache)]


def maker(cache: str) -> Callable[[CacheSpec], CacheLayer]:
    return lambda spec: build("cache", cache, spec)


@pytest.mark.parametrize("cache", EXACT)
@pytest.mark.parametrize("posenc", POSENCS)
def test_greedy_is_the_argmax_of_full_forwards(posenc: str, cache: str) -> None:
    net, prompt = tiny_decoder(posenc), random_ids(2, 5)
    out = generate(net, prompt, Greedy(), 12, make_layer=maker(cache))
    ids = prompt
    for _ in range(12):
        logits = net(ids)[:, -1]
        logits[:, :FIRST] = float("-inf")
        ids = torch.cat((ids, logits.argmax(-1, keepdim=True)), 1)
    assert torch.equal(out, ids)


@pytest.mark.parametrize("cache", LOSSLESS)
@pytest.mark.parametrize("posenc", POSENCS)
def test_left_pads_change_no_token(posenc: str, cache: str) -> None:
    net, prompt = tiny_decoder(posenc), random_ids(3, 6)
    prompt[0, :4] = PAD
    prompt[1, :1] = PAD
    out = generate(net, prompt, Greedy(), 10, make_layer=maker(cache))
    for row, pads in enumerate((4, 1, 0)):
        alone = generate(net, prompt[row : row + 1, pads:], Greedy(), 10, make_layer=maker(cache))
        assert torch.equal(out[row : row + 1, pads:], alone)


@pytest.mark.parametrize("decoding", DECODERS)
def test_every_cache_gives_the_same_text(decoding: str) -> None:
    net, prompt = tiny_decoder(), random_ids(2, 5)
    net.embedding.weight.data *= 0.2  # far from ties
    texts = [
        generate(net, prompt, build("decoding", decoding), 10, make_layer=maker(cache), seed=5)
        for cache in EXACT
    ]
    assert all(torch.equal(text, texts[0]) for text in texts)


@pytest.mark.parametrize("cache", LOSSLESS)
def test_a_long_prompt_is_read_in_chunks_to_the_same_end(
    cache: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, prompt = tiny_decoder(key_shift=True), random_ids(2, 17)
    prompt[0, :2] = PAD
    whole = generate(net, prompt, Greedy(), 6, make_layer=maker(cache))
    monkeypatch.setattr(generation, "CHUNK", 5)
    assert torch.equal(generate(net, prompt, Greedy(), 6, make_layer=maker(cache)), whole)


@pytest.mark.parametrize("decoding", DECODERS)
def test_the_same_seed_gives_the_same_text(decoding: str) -> None:
    net, prompt, strategy = tiny_decoder(), random_ids(1, 5), build("decoding", decoding)
    texts = [
        generate(net, prompt, strategy, 15, make_layer=maker("contiguous"), seed=seed)
        for seed in (1, 1, 2)
    ]
    assert torch.equal(texts[0], texts[1])
    assert torch.equal(texts[0], texts[2]) == facts("decoding", decoding)["deterministic"]


@pytest.mark.parametrize("cache", ["contiguous", "none"])
@pytest.mark.parametrize("decoding", DECODERS)
def test_ids_that_stand_for_no_text_are_never_written(decoding: str, cache: str) -> None:
    """Smoothing gives them probability, and any net may."""
    net, prompt = tiny_decoder(), random_ids(8, 3)
    net.head.weight.data[:FIRST] *= 100
    out = generate(net, prompt, build("decoding", decoding), 20, make_layer=maker(cache))
    assert torch.equal(out[:, :3], prompt) and (out[:, 3:] >= FIRST).all()


@pytest.mark.parametrize("decoding", DECODERS)
def test_of_those_ids_only_the_end_of_a_text_is_written(decoding: str) -> None:
    net = tiny_decoder()
    net.head.weight.data[:FIRST] *= 100
    out = generate(
        net, random_ids(16, 3), build("decoding", decoding), 20, make_layer=maker("none"), eos=EOS
    )[:, 3:]
    ended = (out == EOS).cumsum(1)
    assert (out[ended == 0] >= FIRST).all()
    assert (out[(ended > 0) & (out != EOS)] == PAD).all() and (ended <= 1).all()


@pytest.mark.parametrize("cache", CACHES)
@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([[5, 6, PAD, PAD]], "row 0 .*left"),
        ([[5, 6, 7], [PAD, PAD, PAD]], "row 1 .*left"),
        ([[5, PAD, 7], [5, 6, 7]], "row 0 .*left"),
        ([[PAD, 5, PAD, 7]], "row 0 .*left"),
        ([[]], "no tokens"),
        ([[5, 20]], "id 20 .* not in the vocabulary of 20"),
        ([[-1, 5]], "id -1 "),
    ],
)
def test_a_prompt_that_is_none_is_refused_in_one_line(cache, rows, said) -> None:
    with pytest.raises(ValueError, match=f"^prompt: .*{said}") as caught:
        generate(tiny_decoder(), torch.tensor(rows).long(), Greedy(), 3, make_layer=maker(cache))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
@pytest.mark.parametrize("decoding", DECODERS)
def test_a_net_whose_logits_are_no_numbers_writes_nothing(decoding: str, number: float) -> None:
    net = tiny_decoder()
    net.head.weight.data[7] = number
    with pytest.raises(ValueError, match="^logits: ") as caught:
        generate(net, random_ids(2, 4), build("decoding", decoding), 3, make_layer=maker("none"))
    assert "\n" not in str(caught.value)


def test_watch_sees_the_prefill_and_then_each_token() -> None:
    net, sizes = tiny_decoder(), []

    def watch(step: Step) -> Step:
        def watched(ids: torch.Tensor, parents: torch.Tensor | None = None):
            sizes.append(tuple(ids.shape))
            return step(ids, parents)

        return watched

    generate(net, random_ids(2, 7), Greedy(), 4, make_layer=maker("contiguous"), watch=watch)
    assert sizes == [(2, 7), (2, 1), (2, 1), (2, 1)]


@pytest.mark.parametrize("cache", EXACT)
def test_rows_go_on_from_their_parents(cache: str) -> None:
    net, prompt = tiny_decoder(), random_ids(3, 5)
    with torch.inference_mode():
        step = ModelStep(net, maker(cache), max_len=16)
        step(prompt)
        new, parents = random_ids(2, 1), torch.tensor([2, 0])
        logits = step(new, parents).logits
        expected = net(torch.cat((prompt[parents], new), 1))[:, -1]
    torch.testing.assert_close(logits[:, FIRST:], expected[:, FIRST:], rtol=0, atol=2e-4)


def test_dropout_sleeps_while_generating_and_the_mode_comes_back() -> None:
    net = tiny_decoder(dropout=0.5).train()
    texts = [
        generate(net, torch.tensor([[3, 4]]), Greedy(), 10, make_layer=maker("none"))
        for _ in range(2)
    ]
    assert torch.equal(*texts)
    assert net.training


def test_text_ends_at_eos() -> None:
    net, prompt = tiny_decoder(), random_ids(1, 4)
    whole = generate(net, prompt, Greedy(), 12, make_layer=maker("contiguous"))
    eos = whole[0, 9].item()
    out = generate(net, prompt, Greedy(), 12, make_layer=maker("contiguous"), eos=eos)
    first = whole[0, 4:].tolist().index(eos) + 4
    assert torch.equal(out, whole[:, : first + 1])


@pytest.mark.parametrize("cache", CACHES)
def test_decoding_in_bf16_autocast_works_with_every_cache(cache: str) -> None:
    net, prompt = tiny_decoder(), random_ids(2, 5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = generate(net, prompt, Greedy(), 6, make_layer=maker(cache))
        alone = generate(net, prompt[:1], Greedy(), 6, make_layer=maker(cache))
    assert out.shape == (2, 11) and alone.shape == (1, 11)


def test_tokens_past_a_learned_table_are_refused_not_cropped() -> None:
    net = tiny_decoder("learned", max_len=16)
    assert generate(net, random_ids(1, 6), Greedy(), 10, make_layer=maker("none")).shape == (1, 16)
    with pytest.raises(ValueError, match="max_new_tokens=11: .* 16 positions") as caught:
        generate(net, random_ids(1, 6), Greedy(), 11, make_layer=maker("none"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("length", "new", "message"), [(0, 3, "no tokens"), (3, 0, "at least 1")])
def test_senseless_lengths_are_refused(length: int, new: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        generate(tiny_decoder(), random_ids(1, length), Greedy(), new, make_layer=maker("none"))


def test_positions_count_real_tokens() -> None:
    ids = torch.tensor([[0, 0, 5, 6], [5, 6, 7, 8]])
    assert positions(ids).tolist() == [[-1, -1, 0, 1], [0, 1, 2, 3]]


@pytest.mark.slow
@pytest.mark.parametrize("scaling", members("scaling"))
def test_8192_tokens_are_written_far_beyond_the_trained_length(scaling: str) -> None:
    net, steps = tiny_decoder("rope", num_layers=1), 0
    net.posenc.stretch(build("scaling", scaling), original_len=512)

    def watch(step: Step) -> Step:
        def watched(ids: torch.Tensor, parents: torch.Tensor | None = None):
            nonlocal steps
            out = step(ids, parents)
            assert out.logits[:, FIRST:].isfinite().all(), f"step {steps}"
            steps += 1
            return out

        return watched

    make_layer = maker("contiguous")
    out = generate(net, random_ids(1, 4), Greedy(), 8192, make_layer=make_layer, watch=watch)
    new = out[:, 4:]
    assert steps == new.shape[1] == 8192 and ((new >= FIRST) & (new < 20)).all()
