"""Laws of positional encodings."""

from unittest.mock import Mock

import pytest
import torch
from torch import Tensor

from micro_transformer.nn.masks import Mask
from micro_transformer.nn.posenc.alibi import slopes
from micro_transformer.nn.visibility import CAUSAL
from tests.conftest import build, members, random_ids, rotated, tiny_decoder, tiny_dims

POSENCS = members("posenc")


def shifted(ids: Tensor, by: int) -> Tensor:
    return (torch.arange(ids.shape[1]) + by).expand_as(ids)


@pytest.mark.parametrize("posenc", POSENCS)
def test_position_matters_but_for_the_control(posenc: str) -> None:
    """The last token's logits change if the others are permuted, except without positions.

    The permutation is random: for ALiBi a reversal would not suffice. One layer only, since a
    second one infers the order from the causal mask of the first.
    """
    net, ids = tiny_decoder(posenc, num_layers=1), random_ids(1, 12)
    order = torch.cat((torch.randperm(11), torch.tensor([11])))
    same = torch.allclose(net(ids)[:, -1], net(ids[:, order])[:, -1], atol=1e-4)
    assert same == (posenc == "none")


@pytest.mark.parametrize("posenc", POSENCS)
def test_scores_see_distances_only_where_they_should(posenc: str) -> None:
    """Relative encodings (RoPE, ALiBi) are shift-invariant; learned and sinusoidal are not."""
    net, ids = tiny_decoder(posenc), random_ids(2, 9)
    here, there = (net(ids, pos=shifted(ids, by)) for by in (0, 37))
    same = torch.allclose(here, there, rtol=0, atol=1e-4)
    assert same == net.posenc.relative


@pytest.mark.parametrize("posenc", POSENCS)
def test_positions_by_row_equal_positions_for_all(posenc: str) -> None:
    net, ids = tiny_decoder(posenc), random_ids(2, 9)
    torch.testing.assert_close(net(ids, pos=shifted(ids, 0)), net(ids), rtol=0, atol=2e-5)


@pytest.mark.parametrize("posenc", POSENCS)
def test_hooks_broadcast_over_rows(posenc: str) -> None:
    """Positions (B, T) give, for each row, the result of positions (T,)."""
    encoding = build("posenc", posenc, tiny_dims())
    pos = torch.stack((torch.arange(5), torch.arange(10, 15)))
    x, heads = torch.randn(2, 5, 32), torch.randn(2, 4, 5, 8)
    bias = encoding.bias(pos, pos)
    assert (bias is not None) == encoding.adds_bias
    for row in range(2):
        one = slice(row, row + 1)
        torch.testing.assert_close(
            encoding.embed(x, pos)[one], encoding.embed(x[one], pos[row]), rtol=0, atol=1e-6
        )
        torch.testing.assert_close(
            rotated(encoding, heads, pos)[one], rotated(encoding, heads[one], pos[row])
        )
        if bias is not None:
            torch.testing.assert_close(bias[row], encoding.bias(pos[row], pos[row]))


@pytest.mark.parametrize(("posenc", "hook"), [("rope", "rotation"), ("alibi", "bias_channels")])
def test_tables_are_formed_once_for_all_layers(
    posenc: str, hook: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = tiny_decoder(posenc, num_layers=3)
    spy = Mock(side_effect=getattr(net.posenc, hook))
    monkeypatch.setattr(net.posenc, hook, spy)
    net(random_ids(1, 5))
    assert spy.call_count == 1


# RoPE


def test_rope_turns_each_pair_as_complex_multiplication_does() -> None:
    rope = build("posenc", "rope", tiny_dims(d_model=64, num_heads=2))
    frequencies = 10_000.0 ** (-torch.arange(16, dtype=torch.float64) / 16)
    torch.testing.assert_close(rope.inv_freq.double(), frequencies, rtol=1e-6, atol=0)
    rope.inv_freq = frequencies
    x, pos = torch.randn(2, 2, 50, 32, dtype=torch.float64), torch.arange(50)
    angles = pos.double()[:, None] * frequencies
    turned = torch.complex(x[..., :16], x[..., 16:]) * torch.polar(torch.ones_like(angles), angles)
    expected = torch.cat((turned.real, turned.imag), -1)
    torch.testing.assert_close(rotated(rope, x, pos), expected, rtol=0, atol=1e-12)
    rope.inv_freq = 10_000.0 ** (-torch.arange(16).double() / 16)


def test_rope_keeps_norms() -> None:
    """Relative tolerance 1e-6: an absolute one would depend on head_dim."""
    rope = build("posenc", "rope", tiny_dims(d_model=256, num_heads=4))
    x = torch.randn(1, 4, 8192, 64)
    turned = rotated(rope, x, torch.arange(8192))
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1), rtol=1e-6, atol=0)
    assert not torch.allclose(turned[:, :, 1:], x[:, :, 1:])
    assert torch.equal(turned[:, :, 0], x[:, :, 0])


def test_rope_scores_depend_on_the_distance_alone() -> None:
    rope = build("posenc", "rope", tiny_dims())
    q, k = torch.randn(2, 1, 4, 1, 8)
    scores = [
        rotated(rope, q, torch.tensor([i])) @ rotated(rope, k, torch.tensor([j])).mT
        for i, j in ((7, 2), (105, 100), (2007, 2002))
    ]
    torch.testing.assert_close(scores[1], scores[0], rtol=0, atol=2e-3)
    torch.testing.assert_close(scores[2], scores[0], rtol=0, atol=2e-3)


def test_rope_angles_stay_float32_in_a_bf16_net() -> None:
    """In bf16, position 8191 would be rounded to 8192."""
    rope = build("posenc", "rope", tiny_dims()).bfloat16()
    exact = build("posenc", "rope", tiny_dims())
    pos, x = torch.tensor([8191]), torch.randn(1, 4, 1, 8)
    wide = rotated(exact, x.bfloat16().float(), pos)
    narrow = rotated(rope, x.bfloat16(), pos)
    assert narrow.dtype == torch.bfloat16
    torch.testing.assert_close(narrow.float(), wide, rtol=0, atol=0.03)


def test_rope_needs_pairs() -> None:
    with pytest.raises(ValueError, match="num_heads=4: heads of 7 channels"):
        build("posenc", "rope", tiny_dims(d_model=28))


# ALiBi


@pytest.mark.parametrize(
    ("num_heads", "expected"),
    [
        (1, [2**-8]),
        (2, [2**-4, 2**-8]),
        (8, [2**-i for i in range(1, 9)]),
        (3, [2**-4, 2**-8, 2**-2]),
        (9, [*(2**-i for i in range(1, 9)), 2**-0.5]),
        (12, [*(2**-i for i in range(1, 9)), 2**-0.5, 2**-1.5, 2**-2.5, 2**-3.5]),
    ],
)
def test_alibi_slopes_are_the_papers(num_heads: int, expected: list[float]) -> None:
    assert slopes(num_heads) == pytest.approx(expected, rel=1e-12)
    assert len(set(slopes(num_heads))) == num_heads


def test_alibi_falls_strictly_with_distance_in_every_head() -> None:
    bias = build("posenc", "alibi", tiny_dims(d_model=48, num_heads=6)).bias(
        *[torch.arange(101)] * 2
    )
    row = bias[:, 100]  # the last query looks back
    assert (row[:, 1:] > row[:, :-1]).all()
    assert (row[:, 100] == 0).all()
    attn_bias = bias[0]
    assert attn_bias[0, 100] < attn_bias[0, 50] < attn_bias[0, 0]
    assert torch.equal(bias, bias.mT)


def test_alibi_is_the_papers_formula_where_a_causal_query_looks() -> None:
    bias = build("posenc", "alibi", tiny_dims()).bias(torch.arange(6), torch.arange(6))
    for h, slope in enumerate(slopes(4)):
        for i in range(6):
            for j in range(i + 1):
                assert bias[h, i, j].item() == pytest.approx(-slope * (i - j))


# Sinusoidal and learned


def test_sinusoids_are_the_papers_and_words_are_scaled_up_to_them() -> None:
    encoding, pos = build("posenc", "sinusoidal", tiny_dims()), torch.arange(7)
    waves = encoding.embed(torch.zeros(1, 7, 32), pos)[0]
    for p in range(7):
        for i in range(16):
            angle = torch.tensor(p / 10_000 ** (2 * i / 32), dtype=torch.float64)
            assert waves[p, 2 * i].item() == pytest.approx(angle.sin().item(), abs=1e-6)
            assert waves[p, 2 * i + 1].item() == pytest.approx(angle.cos().item(), abs=1e-6)
    x = torch.randn(1, 7, 32)
    torch.testing.assert_close(encoding.embed(x, pos) - waves, x * 32**0.5)
    assert not list(encoding.parameters())


def test_sinusoids_fit_an_odd_width() -> None:
    encoding = build("posenc", "sinusoidal", tiny_dims(d_model=5, num_heads=1))
    assert encoding.embed(torch.zeros(1, 3, 5), torch.arange(3)).shape == (1, 3, 5)


@pytest.mark.parametrize("posenc", POSENCS)
def test_only_a_trained_table_ends(posenc: str) -> None:
    encoding = build("posenc", posenc, tiny_dims(max_len=16))
    assert (encoding.max_len == 16) == encoding.trained_table
    net, ids = tiny_decoder(posenc, max_len=16), random_ids(1, 17)
    if encoding.trained_table:
        with pytest.raises(IndexError):
            net(ids)
    else:
        assert net(ids).isfinite().all()


@pytest.mark.parametrize("num_heads", [4, 9])
@torch.inference_mode()
def test_a_linear_bias_as_channels_is_as_exact_as_added(num_heads: int) -> None:
    """Of the last queries of a long text, whose bias is in the thousands, in float32."""
    length, last = 4096, 3
    posenc = build("posenc", "alibi", tiny_dims(d_model=8 * num_heads, num_heads=num_heads))
    pos, sides = torch.arange(length), (range(length), range(length))
    mask = Mask(CAUSAL, pos, pos, sides, num_heads=num_heads, posenc=posenc)
    assert mask.bias_channels is not None
    q, k, v = torch.randn(3, 1, num_heads, length, 8)
    found = build("attention", "sdpa")(q, k, v, mask, 0.3)[:, :, -last:]
    scores = q[:, :, -last:].double() @ k.double().mT * 0.3
    scores += posenc.bias(pos[-last:], pos).double()
    scores.masked_fill_(pos > pos[-last:, None], float("-inf"))
    expected = scores.softmax(-1) @ v.double()
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=2e-6)
