"""A net with fewer heads of keys and values is one with all of them whose groups are equal."""

import pytest
import torch
from torch import Tensor

from micro_transformer.generation import positions
from micro_transformer.nn.arch.decoder import DecoderLM
from tests.conftest import facts, make_cache, members, random_ids, tiny_decoder

POSENCS, PATTERNS, KERNELS = members("posenc"), members("pattern"), members("attention")
CACHES, GROUPS, LENGTH = members("cache"), (1, 2), 11


def twins(kv_heads: int, **knobs: object) -> tuple[DecoderLM, DecoderLM]:
    """The net, and one whose four heads of keys and values are copies of its heads."""
    net, full = tiny_decoder(num_kv_heads=kv_heads, **knobs), tiny_decoder(**knobs)
    weights = net.state_dict()
    for name in [name for name in weights if name.endswith("qkv.weight")]:
        heads = weights[name].view(4 + 2 * kv_heads, 8, 32)
        q, k, v = heads.split((4, kv_heads, kv_heads))
        repeated = [x.repeat_interleave(4 // kv_heads, 0) for x in (k, v)]
        weights[name] = torch.cat((q, *repeated)).flatten(0, 1)
    full.load_state_dict(weights)
    return net.double(), full.double()


@pytest.mark.parametrize("kv_heads", GROUPS)
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("posenc", POSENCS)
def test_groups_share_keys_and_values(
    posenc: str, pattern: str, kernel: str, kv_heads: int
) -> None:
    net, full = twins(kv_heads, posenc=posenc, pattern=pattern, attention=kernel)
    ids = random_ids(2, LENGTH)
    with torch.inference_mode():
        torch.testing.assert_close(net(ids), full(ids), rtol=0, atol=1e-10)
    if not facts("attention", kernel)["trains_on_cpu"]:
        return
    ours, expected = (
        torch.autograd.grad(each(ids).logsumexp(-1).sum(), each.embedding.weight)
        for each in (net, full)
    )
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("kv_heads", GROUPS)
@pytest.mark.parametrize("cache", CACHES)
@pytest.mark.parametrize("posenc", ["rope", "alibi"])
@pytest.mark.parametrize("pads", [0, 2])
@torch.inference_mode()
def test_cached_groups_are_those_of_all_heads(
    posenc: str, cache: str, kv_heads: int, pads: int
) -> None:
    """Read as one chunk, then token by token, where the heads of a group share their keys."""
    net, full = twins(kv_heads, posenc=posenc)
    ids = random_ids(2, LENGTH)
    ids[0, :pads] = 0
    expected, ours = (decoded(each, cache, ids) for each in (full, net))
    share = facts("cache", cache).get("logit_error")
    allowed = 1e-10 if share is None else share * expected.std().item()
    torch.testing.assert_close(ours[ids != 0], expected[ids != 0], rtol=0, atol=allowed)


def decoded(net: DecoderLM, cache: str, ids: Tensor) -> Tensor:
    store, pos = make_cache(cache, net, len(ids)), positions(ids)
    if not store.stores:
        return net(ids, pos=pos)
    outs = [net(ids[:, :6], store, pos[:, :6])]
    return torch.cat(outs + [net(token, store) for token in ids[:, 6:].split(1, 1)], 1)


@pytest.mark.parametrize("cache", CACHES)
@torch.inference_mode()
def test_bytes_of_a_cache_follow_the_heads_of_keys(cache: str) -> None:
    found = {}
    for kv_heads in (1, 2, 4):
        net = tiny_decoder(num_kv_heads=kv_heads)
        store = make_cache(cache, net, 1)
        for token in random_ids(1, 40).split(1, 1):
            net(token, store)
        layer = store.layers[0]
        if store.stores:
            assert layer.nbytes() == layer.predicted_nbytes(40)
        found[kv_heads] = store.nbytes()
    assert found[4] == 2 * found[2] == 4 * found[1]


def test_parity_with_llama_by_copied_weights() -> None:
    """Covers grouped heads, RMS norms with a gain and SwiGLU."""
    transformers = pytest.importorskip("transformers", reason="the oracle is not installed")
    config = transformers.LlamaConfig(
        vocab_size=20, hidden_size=32, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, intermediate_size=85, max_position_embeddings=64,
        tie_word_embeddings=False, rms_norm_eps=1e-5,
    )  # fmt: skip
    oracle = transformers.LlamaForCausalLM(config).double().eval()
    for parameter in oracle.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    knobs = {"norm": "rms", "norm_gain": True, "qk_norm": False, "num_kv_heads": 2}
    net = tiny_decoder("rope", "swiglu", num_layers=3, **knobs).double()
    net.load_state_dict(_translated(oracle.state_dict()))
    ids = random_ids(2, 33)
    with torch.no_grad():
        torch.testing.assert_close(net(ids), oracle(ids).logits, rtol=0, atol=1e-4)


def _translated(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Llama's weights under our names; ours fuse q, k, v and the gate with the up projection."""
    names = {
        "model.embed_tokens": "embedding", "lm_head": "head", "model.norm": "stack.norm",
        "model.layers": "stack.blocks", "input_layernorm": "attention_norm",
        "post_attention_layernorm": "ffn_norm", "self_attn.o_proj": "attention.out",
        "mlp.down_proj": "ffn.down",
    }  # fmt: skip
    out = {}
    for name, value in weights.items():
        if "q_proj" in name:
            parts = [weights[name.replace("q_proj", f"{x}_proj")] for x in "qkv"]
            name, value = name.replace("self_attn.q_proj", "attention.qkv"), torch.cat(parts)
        elif "gate_proj" in name:
            value = torch.cat((value, weights[name.replace("gate_proj", "up_proj")]))
            name = name.replace("mlp.gate_proj", "ffn.up")
        elif any(x in name for x in ("k_proj", "v_proj", "up_proj")):
            continue
        for theirs, ours in names.items():
            name = name.replace(theirs, ours)
        out[name] = value
    return out
