"""The mixture of experts against a loop over its tokens, transformers' Mixtral and its formulas."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from micro_transformer.config.components import catalog, find
from micro_transformer.nn import grouped
from micro_transformer.nn.ffn.moe import MoE
from micro_transformer.nn.grouped import Layout, alignment, combine, gather, grouped_linear
from tests.conftest import random_ids, tiny_decoder, tiny_dims, tiny_encoder, tiny_encoder_decoder

EXPERTS = [name for name, found in catalog("ffn").items() if found.facts.get("is_expert")]
KNOBS = {"num_experts": 5, "top_k": 2, "expert": "GELU", "balance_loss": 0.0, "z_loss": 0.0}


def mixture(bias: bool = False, **knobs) -> MoE:
    """In float64, with weights large enough for every part to matter."""
    moe = MoE(tiny_dims(bias=bias), **KNOBS | knobs).double()
    for parameter in moe.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return moe.eval()


def by_token(moe: MoE, x: Tensor) -> Tensor:
    """(N, D) -> (N, D), each token alone through each of its experts, as the definition says."""
    rows = []
    for token in x:
        logits = moe.router.weight @ token
        best = logits.topk(moe.top_k)
        row = torch.zeros_like(token)
        for gate, e in zip(best.values.softmax(0), best.indices.tolist(), strict=True):
            up = 0 if moe.up_bias is None else moe.up_bias[e]
            down = 0 if moe.down_bias is None else moe.down_bias[e]
            row = row + gate * (moe.down[e] @ moe.activate(moe.up[e] @ token + up) + down)
        rows.append(row)
    return torch.stack(rows)


@pytest.mark.parametrize("expert", EXPERTS)
@pytest.mark.parametrize("top_k, bias", list(itertools.product((1, 2, 5), (False, True))))
def test_a_token_is_the_gated_sum_of_its_experts(expert: str, top_k: int, bias: bool) -> None:
    """Values and all gradients; one token alone takes another path."""
    moe, x = mixture(bias, expert=expert, top_k=top_k), torch.randn(2, 9, 32, dtype=torch.float64)
    expected = by_token(moe, x.flatten(0, 1)).view_as(x)
    slope = torch.randn_like(x)
    grads = [
        torch.autograd.grad((y * slope).sum(), list(moe.parameters()), allow_unused=top_k == 1)
        for y in (moe(x), expected)
    ]
    torch.testing.assert_close(moe(x), expected)
    for (name, weight), ours, theirs in zip(moe.named_parameters(), *grads, strict=True):
        theirs = torch.zeros_like(weight) if theirs is None else theirs
        torch.testing.assert_close(ours, theirs, msg=name, atol=1e-12, rtol=1e-7)
    with torch.inference_mode():
        alone = [moe(token[None, None]) for token in x.flatten(0, 1)]
        torch.testing.assert_close(torch.cat(alone).view_as(x), expected)


def test_the_block_of_mixtral_gives_the_same() -> None:
    """transformers' own, with copied weights: output, and the gradient of the input."""
    modeling = pytest.importorskip("transformers.models.mixtral.modeling_mixtral")
    sizes = {"hidden_size": 32, "num_local_experts": 5, "num_experts_per_tok": 2}
    moe = mixture(expert="SwiGLU").float()
    config = modeling.MixtralConfig(**sizes, intermediate_size=moe.down.shape[-1])
    config._experts_implementation = "eager"
    theirs = modeling.MixtralSparseMoeBlock(config).eval()
    weights = {"gate.weight": moe.router.weight, "experts.down_proj": moe.down}
    theirs.load_state_dict(weights | {"experts.gate_up_proj": moe.up})
    x = torch.randn(3, 7, 32, requires_grad=True)
    slopes = [torch.autograd.grad(y.square().sum(), x)[0] for y in (moe(x), theirs(x))]
    torch.testing.assert_close(moe(x), theirs(x), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(*slopes, atol=1e-4, rtol=1e-4)


def test_an_expert_that_no_token_takes_has_no_slope() -> None:
    moe = mixture()
    with torch.no_grad():
        moe.router.weight[3] = moe.router.weight[1]  # a copy loses ties
    x = torch.randn(1, 6, 32, dtype=torch.float64)
    chosen = (x[0] @ moe.router.weight.T).topk(2).indices
    moe(x).sum().backward()
    unused = set(range(5)) - set(chosen.flatten().tolist())
    for expert in unused:
        assert not moe.up.grad[expert].any() and not moe.down.grad[expert].any()


def test_experts_that_are_alike_are_one_dense_ffn() -> None:
    moe = mixture()
    with torch.no_grad():
        moe.up.copy_(moe.up[:1].expand_as(moe.up))
        moe.down.copy_(moe.down[:1].expand_as(moe.down))
    x = torch.randn(2, 9, 32, dtype=torch.float64)
    torch.testing.assert_close(moe(x), F.gelu(x @ moe.up[0].T) @ moe.down[0].T)


@pytest.mark.parametrize("capacity", [None, 0.3])
def test_in_evaluation_a_token_does_not_depend_on_its_neighbours(capacity: float | None) -> None:
    moe, x = mixture(capacity=capacity), torch.randn(4, 9, 32, dtype=torch.float64)
    whole = moe(x)
    torch.testing.assert_close(whole[1:2, 3:5], moe(x[1:2, 3:5]))
    torch.testing.assert_close(whole, by_token(moe, x.flatten(0, 1)).view_as(x))


@pytest.mark.parametrize("capacity", [0.4, 0.8, 1.2, 10.0])
def test_in_training_an_expert_takes_at_most_its_capacity(capacity: float) -> None:
    """By a loop: first choices before second ones, each in the order of the tokens; what is left
    out is not given to another expert, and no gate is changed."""
    moe, x = mixture(capacity=capacity).train(), torch.randn(13, 32, dtype=torch.float64)
    room = [-(-capacity * 2 * 13 // 5)] * 5
    best = (x @ moe.router.weight.T).topk(2)
    gates, expected = best.values.softmax(-1), torch.zeros_like(x)
    for choice, token in itertools.product(range(2), range(13)):
        e = best.indices[token, choice]
        if room[e] > 0:
            room[e] -= 1
            hidden = F.gelu(moe.up[e] @ x[token])
            expected[token] = expected[token] + gates[token, choice] * (moe.down[e] @ hidden)
    torch.testing.assert_close(moe(x), expected)
    slopes = [torch.autograd.grad(y.square().sum(), [moe.up, moe.router.weight])
              for y in (moe(x), expected)]  # fmt: skip
    torch.testing.assert_close(slopes[0], slopes[1])


@pytest.mark.parametrize("tokens", [4, 40])
def test_the_grouped_operations_have_the_slopes_of_their_values(tokens: int, monkeypatch) -> None:
    """With an expert without rows, choices that none takes, and rows that fill up groups."""
    monkeypatch.setattr(grouped, "LEAST", 4)
    double = {"dtype": torch.float64, "requires_grad": True}
    sizes = ((tokens, 3), (3, 2, 3), (2, tokens))
    x, weight, gates = (torch.randn(*size, **double) for size in sizes)
    chosen = torch.tensor([0, 2]).repeat(tokens)
    taken = chosen == torch.arange(3)[:, None]
    taken[:, ::3] = False
    layout = Layout.of(taken, 2)
    assert all(size % 4 == 0 for size in layout.sizes) == (tokens == 40)
    kept = gates.detach() * taken.any(0).view(2, tokens)
    rows = gather(x, layout)
    y = combine(grouped_linear(rows, weight, layout.sizes), kept, layout)
    expected = sum(
        torch.where(taken[e].view(2, tokens), kept, 0).sum(0)[:, None] * (x @ weight[e].T)
        for e in range(3)
    )
    torch.testing.assert_close(y, expected)
    assert torch.autograd.gradcheck(
        lambda x, w, g: combine(
            grouped_linear(gather(x, layout), w, layout.sizes),
            g * taken.any(0).view(2, tokens),
            layout,
        ),
        (x, weight, gates),
    )


def test_groups_are_filled_by_little() -> None:
    for share in (0, 1, 63, 64, 100, 512, 5000):
        assert alignment(share) == 1 or 16 <= alignment(share) <= max(16, share / 16)
    assert [alignment(share) for share in (63, 64, 512, 2048)] == [1, 16, 32, 128]


def test_the_balance_is_one_when_even_and_its_slope_passes_through_the_probabilities() -> None:
    moe, x = mixture(balance_loss=2.0), torch.randn(40, 32, dtype=torch.float64)
    logits = (x @ moe.router.weight.T).requires_grad_()
    shares = logits.softmax(-1)
    counts = torch.bincount(shares.topk(2).indices.flatten(), minlength=5)
    found = moe._auxiliary(logits, shares, counts)
    expected = 2.0 / 2 * 5 * (counts / 80 * shares.mean(0)).sum()  # over two layers
    torch.testing.assert_close(found, expected)
    (slope,) = torch.autograd.grad(found, logits, retain_graph=True)
    torch.testing.assert_close(slope, torch.autograd.grad(expected, logits)[0])
    even = torch.full((5,), 16)
    torch.testing.assert_close(
        moe._auxiliary(logits, torch.full_like(shares, 0.2), even).item(), 1.0
    )


def test_the_z_loss_is_the_mean_squared_log_partition() -> None:
    moe, logits = mixture(z_loss=3.0), torch.randn(40, 5, dtype=torch.float64)
    found = moe._auxiliary(logits, logits.softmax(-1), torch.ones(5))
    torch.testing.assert_close(found, 1.5 * logits.exp().sum(-1).log().square().mean())


def heard(net, *args, **more) -> list[Tensor]:
    """The router's probabilities in each layer of a forward pass in training, (N, E) each."""
    seen: list[Tensor] = []
    for block in net.blocks():
        block.ffn.probabilities.register_forward_hook(lambda m, a, out: seen.append(out))
    net.train()(*args, **more, aux_scale=torch.ones(()))
    return seen


def padded_ids() -> Tensor:
    ids = random_ids(2, 9)
    ids[0, 6:] = 0
    return ids


def test_pads_are_not_routed() -> None:
    """Of an encoder, of the source and the target of a translation, of a left-padded decoder."""
    ids = padded_ids()
    found = heard(tiny_encoder(ffn="moe"), ids)
    found += heard(tiny_encoder_decoder(ffn="moe"), ids, source=padded_ids())
    pos = torch.tensor([[-1, -1, -1, 0, 1, 2, 3, 4, 5], list(range(9))])
    found += heard(tiny_decoder(ffn="moe"), ids.flip(1), pos=pos)
    assert len(found) == 8 and all(len(each) == 15 for each in found)


def test_a_pad_changes_no_gradient() -> None:
    """Of loss and auxiliary losses together, between a row alone and the same row with pads."""
    net, ids = tiny_encoder(ffn="moe").double().train(), random_ids(1, 6)
    grads = []
    for text in (ids, F.pad(ids, (0, 4)), F.pad(ids, (4, 0))):
        net.zero_grad()
        at = text != 0
        net(text, aux_scale=torch.ones((), dtype=torch.float64), at=at).square().sum().backward()
        grads.append({name: p.grad.clone() for name, p in net.named_parameters()})
    for other in grads[1:]:
        torch.testing.assert_close(other, grads[0])


def test_twins_have_the_parameters_that_their_names_say() -> None:
    dims = tiny_dims(d_model=96)
    for expert in EXPERTS:
        knobs = {"num_experts": 6, "top_k": 2, "expert": expert}
        moe = MoE(dims, **knobs, balance_loss=0, z_loss=0)
        router = moe.router.weight.numel()
        active, total = (find("ffn", kind).load()(dims, **knobs) for kind in TWINS)
        assert active.active_params() == pytest.approx(moe.active_params() - router, rel=0.01)
        whole = sum(p.numel() for p in moe.parameters())
        assert total.active_params() == pytest.approx(whole - router, rel=0.01)
        assert total.flops_per_token() == pytest.approx(3 * active.flops_per_token(), rel=0.01)


TWINS = ("IsoActive", "IsoTotal")
