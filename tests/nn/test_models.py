"""The whole net: parity with a reference, initialisation, options."""

import copy
import math
import pickle

import pytest
import torch
import torch.nn.functional as F

from micro_transformer.config.components import find
from micro_transformer.config.schema import read_choice
from micro_transformer.nn.arch.decoder import DecoderLM
from micro_transformer.nn.linear import PACKED, Linear
from micro_transformer.runs import worker
from micro_transformer.tasks.token_prediction import mean_nll
from tests.conftest import (
    build,
    make_cache,
    members,
    random_ids,
    tiny_decoder,
    tiny_dims,
    trainable_kernels,
)

FAMILIES = ("posenc", "pattern", "scaling", "ffn", "attention", "cache", "decoding")
CHOICES = [(group, choice) for group in FAMILIES for choice in members(group)]


def fresh(**changes: object) -> DecoderLM:
    """A net as initialised for training."""
    dims = tiny_dims(**changes)
    return DecoderLM(
        dims,
        build("posenc", "learned", dims),
        build("pattern", "full"),
        lambda: build("ffn", "gelu", dims),
        lambda: build("attention", "sdpa"),
    )


@pytest.mark.parametrize(("group", "choice"), CHOICES)
def test_a_yaml_writes_every_knob_of_its_class_and_no_other(group: str, choice: str) -> None:
    knobs = read_choice(group, choice)
    component = find(group, knobs.pop("kind"))
    assert set(knobs) == set(component.knobs)


@pytest.mark.parametrize("attention", trainable_kernels())
@pytest.mark.parametrize("ffn", members("ffn"))
@pytest.mark.parametrize("posenc", members("posenc"))
def test_every_net_builds_and_every_weight_learns(posenc: str, ffn: str, attention: str) -> None:
    net = tiny_decoder(posenc, ffn, attention, bias=True, norm_gain=True).train()
    loss = net(random_ids(2, 7)).logsumexp(-1).mean()
    loss.backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("knobs", [
    {"norm": "rms"}, {"norm": "rms", "norm_gain": True}, {"qk_norm": False},
    {"tied_embeddings": True}, {"embedding_norm": True}, {"bias": True, "norm_gain": True},
    {"key_shift": True},
])  # fmt: skip
def test_every_knob_of_the_blocks_changes_the_function(knobs: dict[str, object]) -> None:
    ids = random_ids(2, 7)
    torch.manual_seed(1)
    base = tiny_decoder()
    torch.manual_seed(1)
    changed = tiny_decoder(**knobs)
    shared = {k: v for k, v in base.state_dict().items() if k in changed.state_dict()}
    changed.load_state_dict(shared, strict=False)
    assert not torch.allclose(base(ids), changed(ids), atol=1e-3)


def test_initial_weights_are_small_and_residual_ones_smaller() -> None:
    net = fresh(d_model=128, num_layers=8, bias=True)
    block = net.blocks()[3]
    for weight in (block.attention.qkv.weight, block.ffn.up.weight, net.embedding.weight,
                   net.head.weight, net.posenc.table.weight):  # fmt: skip
        assert weight.std().item() == pytest.approx(0.02, rel=0.1)
    for weight in (block.attention.out.weight, block.ffn.down.weight):
        assert weight.std().item() == pytest.approx(0.02 / math.sqrt(16), rel=0.1)
    assert (block.attention.qkv.bias == 0).all()


def test_zero_init_makes_every_block_the_identity_at_first() -> None:
    net, x = fresh(zero_init=True), torch.randn(2, 5, 32)
    contexts = []
    net.stack.register_forward_hook(lambda module, args, out: contexts.append(args[1]))
    net(random_ids(2, 5))
    assert torch.equal(net.blocks()[0](x, contexts[0], 0), x)


def test_tied_embeddings_are_one_matrix() -> None:
    net = fresh(tied_embeddings=True)
    assert net.head.weight is net.embedding.weight
    assert fresh().head.weight is not fresh().embedding.weight


def test_swapping_the_kernel_swaps_it_in_every_layer() -> None:
    net, ids, seen = tiny_decoder(), random_ids(2, 6), []
    before, weights = net(ids), dict(net.named_parameters())
    net.use_kernel(lambda: build("attention", "manual"))
    for block in net.blocks():
        block.attention.kernel.weights.register_forward_hook(lambda m, a, out: seen.append(out))
    torch.testing.assert_close(net(ids), before, rtol=0, atol=2e-5)
    assert [w.shape for w in seen] == [(2, 4, 6, 6)] * 2
    assert dict(net.named_parameters()).keys() == weights.keys()


def test_seams_show_queries_keys_and_values_of_every_head() -> None:
    net, shapes = tiny_decoder(), []
    for name in ("q", "k", "v"):
        seam = getattr(net.blocks()[1].attention, name)
        seam.register_forward_hook(lambda m, a, out: shapes.append(tuple(out.shape)))
    net(random_ids(2, 6))
    assert shapes == [(2, 4, 6, 8)] * 3


def test_dropout_is_off_in_evaluation() -> None:
    net, ids = tiny_decoder(dropout=0.5), random_ids(1, 6)
    assert torch.equal(net(ids), net(ids))
    net.train()
    assert not torch.equal(net(ids), net(ids))


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(ValueError, match="d_model=30 is not a multiple of num_heads=4"):
        tiny_dims(d_model=30)


@pytest.mark.parametrize("rows", [2, 5, 40])
@pytest.mark.parametrize("bias", [False, True])
def test_a_packed_product_follows_its_weight(rows: int, bias: bool) -> None:
    layer = Linear(400, 400, bias=bias).eval()
    x = torch.randn(rows, 400)

    def check(layer: Linear) -> None:
        with torch.inference_mode():
            torch.testing.assert_close(layer(x), F.linear(x, layer.weight, layer.bias))

    check(layer)
    with torch.no_grad():
        layer.weight.mul_(2)  # as an optimizer does
    check(layer)
    layer.load_state_dict(Linear(400, 400, bias=bias).state_dict())
    check(layer)
    check(copy.deepcopy(layer))
    check(pickle.loads(pickle.dumps(layer)))
    assert layer.state_dict().keys() == torch.nn.Linear(400, 400, bias=bias).state_dict().keys()
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
    with torch.inference_mode():
        assert (layer._packed is not None) == PACKED
        layer.weight.mul_(3)
    check(layer)
    assert layer.train()._packed is None
    with torch.inference_mode():
        made_here = Linear(400, 400, bias=bias).eval()
        check(made_here)
        made_here.weight.mul_(2)
    check(made_here)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_one_row_takes_another_way_to_the_same_product(dtype: torch.dtype, bias: bool) -> None:
    layer = Linear(300, 200, bias=bias).to(dtype)
    x = torch.randn(1, 1, 300, dtype=dtype)
    expected = layer(x)
    with torch.inference_mode():
        out = layer(x)
    assert out.shape == (1, 1, 200) and out.dtype == dtype
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-5)


def test_parity_with_gpt_neox_by_copied_weights() -> None:
    """Covers pre-LN and final LN, biases, exact GELU and the channel pairs of RoPE."""
    transformers = pytest.importorskip("transformers", reason="the oracle is not installed")
    torch.manual_seed(0)
    config = transformers.GPTNeoXConfig(
        vocab_size=20, hidden_size=32, num_hidden_layers=3, num_attention_heads=4,
        intermediate_size=128, hidden_act="gelu", max_position_embeddings=64,
        use_parallel_residual=False, tie_word_embeddings=False, bos_token_id=1, eos_token_id=1,
        rope_parameters={
            "rope_type": "default", "rope_theta": 10_000.0, "partial_rotary_factor": 1.0
        },
    )  # fmt: skip
    oracle = transformers.GPTNeoXForCausalLM(config).double().eval()
    for parameter in oracle.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    net = tiny_decoder("rope", "gelu", num_layers=3, bias=True, norm_gain=True, qk_norm=False)
    net = net.double()
    net.load_state_dict(_translated(oracle.state_dict(), num_heads=4))
    ids = random_ids(2, 33)
    with torch.no_grad():
        torch.testing.assert_close(net(ids), oracle(ids).logits, rtol=0, atol=1e-4)


def _translated(weights: dict[str, torch.Tensor], num_heads: int) -> dict[str, torch.Tensor]:
    """GPT-NeoX weights under our names and layout; there q, k, v are interleaved per head."""
    names = {
        "gpt_neox.embed_in": "embedding", "lm_head": "head",
        "gpt_neox.final_layer_norm": "stack.norm", "gpt_neox.layers": "stack.blocks",
        "input_layernorm": "attention_norm", "post_attention_layernorm": "ffn_norm",
        "attention.query_key_value": "attention.qkv", "attention.dense": "attention.out",
        "mlp.dense_h_to_4h": "ffn.up", "mlp.dense_4h_to_h": "ffn.down",
    }  # fmt: skip
    out = {}
    for name, value in weights.items():
        if "query_key_value" in name:
            value = value.unflatten(0, (num_heads, 3, -1)).transpose(0, 1).flatten(0, 2)
        for theirs, ours in names.items():
            name = name.replace(theirs, ours)
        out[name] = value
    return out


@pytest.mark.parametrize("tied", [False, True])
def test_operations_of_a_token_are_those_of_the_matrices_it_goes_through(tied: bool) -> None:
    """A vocabulary head with tied weights counts too, as it is a matrix product."""
    sizes = {"vocab_size": 50, "d_model": 64, "num_heads": 2, "tied_embeddings": tied}
    net = tiny_decoder(ffn="gelu", **sizes)
    seen: list[int] = []
    for module in net.modules():
        if isinstance(module, Linear):
            module.register_forward_hook(lambda m, *_: seen.append(2 * m.weight.numel()))
    net(torch.ones(1, 1, dtype=torch.long))
    found = worker.sizes(net)
    assert found["flops_per_token"] == sum(seen)
    assert found["params"] == sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize("attention", trainable_kernels())
@pytest.mark.parametrize("posenc", members("posenc"))
def test_a_batch_of_no_rows_has_no_logits_and_no_gradient(posenc: str, attention: str) -> None:
    """A rank's share of the last batch of an epoch may be empty; training must not fail on it."""
    net, nothing = (
        tiny_decoder(posenc, attention=attention, key_shift=True),
        torch.zeros(0, 5).long(),
    )
    pads = torch.full((0, 5), -1)
    for dtype in (torch.float32, torch.bfloat16):
        logits = net.to(dtype)(nothing)
        assert logits.shape == net(nothing, pos=pads).shape == (0, 5, 20)
        loss = mean_nll(logits, nothing, label_smoothing=0.1)
        loss.backward()
        assert loss.item() == 0
        assert all(p.grad is not None and not p.grad.any() for p in net.stack.parameters())


@pytest.mark.parametrize("cache", members("cache"))
def test_a_cache_of_no_rows_holds_no_bytes_of_tokens(cache: str) -> None:
    net, nothing = tiny_decoder(), torch.zeros(0, 7).long()
    held = make_cache(cache, net, 0)
    with torch.inference_mode():
        for ids in nothing.split((5, 1, 1), 1):
            assert net(ids, held).shape == (0, ids.shape[1], 20)
        held.reorder(torch.zeros(0).long())
        assert net(nothing[:, :1], held).shape == (0, 1, 20)
    assert all(layer.used_nbytes() == 0 for layer in held.layers)
