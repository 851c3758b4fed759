"""Scores of heads on maps drawn by hand, and maps and traces of a real net."""

import pytest
import torch

from micro_transformer.evals import probes
from tests.evals.subjects import tiny_subject

T, HALF = 24, 12
ids = torch.arange(5, 5 + HALF).repeat(2)[None]  # (1, T): distinct tokens, then the same again
marks = torch.arange(T)[None] % 4 == 2
SCORES = {
    "previous": probes.previous,
    "nearby": probes.nearby,
    "first": probes.first,
    "induction": lambda maps: probes.induction(maps, ids),
    "punctuation": lambda maps: probes.punctuation(maps, marks),
}


def hand_made(target) -> torch.Tensor:
    """(1, 1, T, T) maps whose row i looks at target(i) alone."""
    maps = torch.zeros(1, 1, T, T)
    for i in range(T):
        maps[0, 0, i, target(i)] = 1
    return maps


def even() -> torch.Tensor:
    return (torch.ones(T, T).tril() / torch.arange(1, T + 1)[:, None])[None, None]


PATTERNS = {
    "previous": hand_made(lambda i: max(i - 1, 0)),
    "first": hand_made(lambda i: 0),
    "induction": hand_made(lambda i: i - HALF + 1 if i >= HALF else i),
    "itself": hand_made(lambda i: i),
}


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("score", ["previous", "first", "induction"])
def test_a_score_is_one_on_its_pattern_and_about_zero_on_the_others(pattern, score):
    value = SCORES[score](PATTERNS[pattern]).item()
    expected = 1 if score == pattern else 0
    assert value == pytest.approx(expected, abs=1e-6 if expected else 1 / (T - 2))


def test_nearby_is_the_mass_on_the_last_four():
    for back in range(7):
        maps = hand_made(lambda i, back=back: max(i - back, 0))
        far = 4 / (T - 1)  # only the first queries have token 0 nearby
        expected = 0 if back == 0 else 1 if back <= 4 else far
        assert SCORES["nearby"](maps).item() == pytest.approx(expected, abs=1e-6)


def test_punctuation_is_what_goes_beyond_the_share_of_marks():
    only_marks = hand_made(lambda i: max((j for j in range(i + 1) if marks[0, j]), default=0))
    shares = [marks[0, : i + 1].float().mean().item() for i in range(T)]
    expected = sum((i >= 2) - shares[i] for i in range(1, T)) / (T - 1)
    assert SCORES["punctuation"](only_marks).item() == pytest.approx(expected, abs=1e-6)
    assert SCORES["punctuation"](even()).item() == pytest.approx(0, abs=1e-6)


def test_entropy_is_one_for_an_even_look_and_zero_for_a_look_at_one_token():
    assert probes.entropy(even()).item() == pytest.approx(1, abs=1e-6)
    for maps in PATTERNS.values():
        assert probes.entropy(maps).item() == 0


def test_an_even_head_has_no_label_and_a_pattern_has_its_own():
    control = dict.fromkeys(probes.THRESHOLDS, 0.1)

    def named(maps):
        return probes.label({name: f(maps).item() for name, f in SCORES.items()}, control)

    assert named(even()) == probes.UNNAMED
    for name in ("previous", "first", "induction"):
        assert named(PATTERNS[name]) == name


def test_what_an_untrained_head_reaches_names_nothing():
    scores = {"previous": 0.6, "nearby": 0.6, "first": 0.1, "induction": 0.0, "punctuation": 0.0}
    assert probes.label(scores, dict.fromkeys(scores, 0.5)) == "previous"
    assert probes.label(scores, {**scores, "previous": 0.7, "nearby": 0.7}) == probes.UNNAMED


def test_a_repeat_is_the_same_tokens_again_and_distinct_while_they_last():
    drawn = probes.repeated(range(5, 20), 10, 3, torch.Generator().manual_seed(0))
    assert drawn.shape == (3, 20) and drawn.min() >= 5 and drawn.max() < 20
    assert torch.equal(drawn[:, :10], drawn[:, 10:])
    assert all(len(set(row.tolist())) == 10 for row in drawn)
    assert probes.repeated(range(5, 8), 10, 1, torch.Generator()).shape == (1, 20)


@pytest.fixture
def net(tmp_path):
    return tiny_subject(tmp_path)


def test_maps_are_what_the_attention_did(net):
    """Rebuilt from q and k of the first layer; RoPE acts before the seams."""
    heard: dict[str, torch.Tensor] = {}
    with probes.heard(net.model, ("q", "k"), heard.__setitem__), torch.inference_mode():
        net.model(ids)
    q, k = (heard[f"stack.blocks.0.attention.{name}"] for name in "qk")
    scores = (q @ k.mT) / q.shape[-1] ** 0.5
    future = torch.ones(T, T).triu(1).bool()
    expected = scores.masked_fill(future, float("-inf")).softmax(-1)
    maps = probes.attention_maps(net.model, ids)
    assert len(maps) == 2
    torch.testing.assert_close(maps[0], expected)


def test_probing_leaves_the_net_as_it_was(net):
    kernel = net.model.blocks()[0].attention.kernel
    probes.trace(net.model, ids)
    assert net.model.blocks()[0].attention.kernel is kernel
    assert not any(m._forward_hooks for m in net.model.modules())


def test_a_trace_shows_every_seam_of_every_layer_with_its_shape(net):
    lines = probes.trace(net.model, ids).splitlines()
    for layer in range(2):
        own = [line for line in lines if f"blocks.{layer}." in line]
        assert [line.split()[0].rpartition(".")[2] for line in own] == list(probes.SEAMS)
        assert all("1 x 2 x 24 x 16" in line for line in own[:3])  # B x H x T x d
        assert all("1 x 2 x 24 x 24" in line for line in own[3:])
    assert lines[-1].startswith("logits")
