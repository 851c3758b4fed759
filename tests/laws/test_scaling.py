"""Laws of RoPE scalings."""

import math

import pytest
import torch

from tests.conftest import build, make_cache, members, random_ids, rotated, tiny_decoder, tiny_dims

SCALINGS = members("scaling")
D, L, S = 64, 512, 4.0
INV_FREQ = 10_000.0 ** (-torch.arange(0, D, 2, dtype=torch.float32) / D)
SHORT = 10_000.0 ** (-torch.arange(0, 8, 2, dtype=torch.float32) / 8)


def scaled(scaling: str, target_len: int = int(S * L)) -> tuple[torch.Tensor, float]:
    return build("scaling", scaling)(INV_FREQ, original_len=L, target_len=target_len)


# Scalings of ours that transformers has too.
PEERS = {
    "none": {"rope_type": "default"},
    "linear": {"rope_type": "linear", "factor": S},
    "ntk": {"rope_type": "dynamic", "factor": 1.0},  # at length S · L
    "dynamic_ntk": {"rope_type": "dynamic", "factor": 1.0},
    "yarn": {
        "rope_type": "yarn", "factor": S, "beta_fast": 32.0, "beta_slow": 1.0,
        "original_max_position_embeddings": L,
    },
}  # fmt: skip


@pytest.mark.parametrize("target_len", [L, 700, 2 * L, 8192])
@pytest.mark.parametrize("scaling", PEERS)
def test_parity_with_transformers(scaling: str, target_len: int) -> None:
    transformers = pytest.importorskip("transformers", reason="the oracle is not installed")
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    inv_freq, score_scale = scaled(scaling, target_len)
    peer, length = PEERS[scaling], int(S * L) if scaling == "ntk" else target_len
    config = transformers.LlamaConfig(
        hidden_size=D, num_attention_heads=1, max_position_embeddings=L,
        rope_parameters={"rope_theta": 10_000.0, **peer},
    )  # fmt: skip
    if scaling == "none":
        rope = transformers.models.llama.modeling_llama.LlamaRotaryEmbedding(config)
        expected, factor = rope.inv_freq, rope.attention_scaling
    else:
        make = ROPE_INIT_FUNCTIONS[peer["rope_type"]]
        expected, factor = make(config, "cpu", seq_len=length)
    torch.testing.assert_close(inv_freq, expected, rtol=2e-6, atol=0)
    assert score_scale == pytest.approx(factor**2, rel=1e-6)


def test_scalings_differ_pairwise_beyond_the_trained_length() -> None:
    net, ids = tiny_decoder("rope"), random_ids(1, 24)
    outs = {}
    for scaling in SCALINGS:
        net.posenc.stretch(build("scaling", scaling), original_len=8)
        outs[scaling] = net(ids)[:, -1]
    # dynamic NTK at 24 tokens, trained on 8, has factor 3; NTK has 4
    for a in SCALINGS:
        for b in SCALINGS:
            assert (a == b) == torch.allclose(outs[a], outs[b], atol=1e-4), (a, b)


def test_ntk_leaves_the_highest_frequency_and_divides_the_lowest_by_the_factor() -> None:
    for scaling in ("ntk", "dynamic_ntk"):
        inv_freq, score_scale = scaled(scaling)
        assert inv_freq[0] == INV_FREQ[0] and score_scale == 1.0
        assert (INV_FREQ[-1] / inv_freq[-1]).item() == pytest.approx(S, rel=1e-5)


def test_dynamic_ntk_is_none_up_to_the_trained_length() -> None:
    for target_len in (1, L - 1, L):
        torch.testing.assert_close(scaled("dynamic_ntk", target_len)[0], INV_FREQ, rtol=0, atol=0)
    assert scaled("dynamic_ntk", L + 1)[0][-1] < INV_FREQ[-1]


def test_linear_divides_positions() -> None:
    """Positions 0 to 8191 become 0 to 2047.75 with factor 4 (Chen et al., 2023)."""
    net, ids = tiny_decoder("rope"), random_ids(1, 9)
    plain = net(ids)
    net.posenc.stretch(build("scaling", "linear"), original_len=8)
    stretched = net(ids, pos=4 * torch.arange(9).expand(1, -1))
    torch.testing.assert_close(stretched, plain, rtol=0, atol=1e-4)


def test_yarn_has_three_bands_and_a_temperature() -> None:
    inv_freq, score_scale = scaled("yarn")
    turns = L * INV_FREQ / (2 * math.pi)
    ratio = INV_FREQ / inv_freq
    assert (ratio[turns > 40] == 1).all() and (turns > 40).any()
    torch.testing.assert_close(ratio[turns < 0.8], torch.full_like(ratio[turns < 0.8], S))
    assert (ratio[1:] >= ratio[:-1] - 1e-6).all()
    assert score_scale == pytest.approx((0.1 * math.log(S) + 1) ** 2)


@pytest.mark.parametrize("scaling", SCALINGS)
def test_every_scaling_keeps_norms_and_distances(scaling: str) -> None:
    """YaRN's temperature is a factor on q·k, not part of the rotation."""
    rope = build("posenc", "rope", tiny_dims(d_model=256, num_heads=4))
    rope.stretch(build("scaling", scaling), original_len=2048)
    x, pos = torch.randn(1, 4, 8192, 64), torch.arange(8192)
    turned = rotated(rope, x, pos, 8192)
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1), rtol=1e-6, atol=0)
    assert turned.isfinite().all()
    q, k = x[:, :, :1], x[:, :, 1:2]
    near, far = (
        rotated(rope, q, torch.tensor([i + 5]), 8192) @ rotated(rope, k, torch.tensor([i]), 8192).mT
        for i in (0, 8000)
    )
    torch.testing.assert_close(far, near, rtol=0, atol=2e-2)


@pytest.mark.parametrize("scaling", SCALINGS)
def test_the_temperature_multiplies_scores(scaling: str) -> None:
    net, ids, seen = tiny_decoder("rope", attention="manual", num_layers=1), random_ids(1, 9), []
    attention = net.blocks()[0].attention
    attention.kernel.scores.register_forward_hook(lambda m, a, out: seen.append(out))
    attention.q.register_forward_hook(lambda m, a, out: seen.append(out))
    attention.k.register_forward_hook(lambda m, a, out: seen.append(out))
    net.posenc.stretch(build("scaling", scaling), original_len=8)
    net(ids)
    q, k, scores = seen
    factor = net.posenc.score_scale(9)
    expected = q @ k.mT * factor / math.sqrt(8)
    causal = torch.ones(9, 9).tril().bool()
    torch.testing.assert_close(scores[..., causal], expected[..., causal])


@pytest.mark.parametrize("num_layers", [1, 3])
@pytest.mark.parametrize("scaling", SCALINGS)
def test_cached_decoding_crosses_the_trained_length_at_every_step(
    scaling: str, num_layers: int
) -> None:
    """Decoding token by token equals one forward pass, for lengths around the trained one.

    A factor that grew with the text would fail from the second layer on, and with cached rotated
    keys in the first one too.
    """
    net = tiny_decoder("rope", num_layers=num_layers)
    net.posenc.stretch(build("scaling", scaling), original_len=5)
    for length in range(2, 13):
        ids = random_ids(1, length)
        cache = make_cache("contiguous", net, 1, max_len=length)
        steps = torch.cat([net(token, cache) for token in ids.split(1, 1)], 1)
        torch.testing.assert_close(steps, net(ids), rtol=0, atol=2e-4)


def test_a_shorter_request_after_a_longer_one_is_read_as_if_it_came_first() -> None:
    """In transformers a factor once persisted between requests (bug, PR 27033)."""
    net = tiny_decoder("rope")
    net.posenc.stretch(build("scaling", "dynamic_ntk"), original_len=8)
    short, long = random_ids(1, 6), random_ids(1, 30)
    before = net(short)
    net(long)
    assert torch.equal(net(short), before)


def test_frequencies_stay_float32_in_a_bf16_net() -> None:
    net = tiny_decoder("rope").bfloat16()
    for scaling in SCALINGS:
        net.posenc.stretch(build("scaling", scaling), original_len=8)
        assert net.posenc.frequencies(64)[0].dtype == torch.float32
