"""LoRA: parity with peft, slices of the fused map, merging."""

import pytest
import torch
from torch import Tensor, nn

from micro_transformer.nn.adapters.lora import LoRA, LoRALinear
from micro_transformer.nn.adapters.soft_prompt import SoftPrompt
from micro_transformer.nn.arch.base import Net
from tests.conftest import members, random_ids, tiny_decoder, tiny_encoder_decoder
from tests.laws.test_cache import CHUNKINGS, LENGTH, in_chunks

ALL = ["q", "k", "v", "out"]


def lora(net: Net, targets: list[str], rank: int = 4, alpha: float = 6.0, std: float = 0.3) -> Net:
    LoRA(rank=rank, alpha=alpha, targets=targets, lr=1e-3).insert(net)  # type: ignore[arg-type]
    for module in layers(net):
        nn.init.normal_(module.lora_b, std=std)
    return net


def layers(net: Net) -> list[LoRALinear]:
    return [module for module in net.modules() if isinstance(module, LoRALinear)]


@pytest.mark.parametrize("targets", [["q"], ["k"], ["v"], ["q", "v"], ["v", "k"], ALL])
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_each_target_has_its_own_product_in_its_own_rows(kv_heads: int, targets: list[str]) -> None:
    """In float64, against W + alpha/rank B A put together by hand."""
    net = lora(tiny_decoder(num_kv_heads=kv_heads).double(), targets, rank=4, alpha=6.0)
    ids, expected = random_ids(2, 7), tiny_decoder(num_kv_heads=kv_heads).double()
    wide = {"q": range(32), "k": range(32, 32 + 8 * kv_heads)}
    wide["v"] = range(wide["k"].stop, wide["k"].stop + 8 * kv_heads)
    weights = {k: v for k, v in net.state_dict().items() if "lora" not in k}
    for index, block in enumerate(net.blocks()):
        heads = [name for name in ("q", "k", "v") if name in targets]
        if heads:
            a = block.attention.qkv.lora_a.split(4)
            b = block.attention.qkv.lora_b.split([len(wide[name]) for name in heads])
            weight = weights[f"stack.blocks.{index}.attention.qkv.weight"].clone()
            for name, up, down in zip(heads, b, a, strict=True):
                weight[list(wide[name])] += 6 / 4 * up @ down
            weights[f"stack.blocks.{index}.attention.qkv.weight"] = weight
        if "out" in targets:
            out = block.attention.out
            weights[f"stack.blocks.{index}.attention.out.weight"] = (
                out.weight + 6 / 4 * out.lora_b @ out.lora_a
            )
    expected.load_state_dict(weights)
    torch.testing.assert_close(net(ids), expected(ids), rtol=0, atol=1e-10)


def test_a_starts_as_a_linear_layer_of_torch_and_b_at_zero() -> None:
    net = tiny_decoder(d_model=512)
    LoRA(rank=8, alpha=16.0, targets=["q", "v"], lr=1e-3).insert(net)
    layer = layers(net)[0]
    bound = 512**-0.5  # kaiming_uniform with a = sqrt 5
    assert not layer.lora_b.any() and layer.lora_a.shape == (16, 512)
    assert 0.99 * bound < layer.lora_a.abs().max() <= bound
    assert layer.lora_a.std().item() == pytest.approx(bound / 3**0.5, rel=0.05)
    assert not torch.equal(layer.lora_a[:8], layer.lora_a[8:])


def test_cross_attention_is_adapted_too() -> None:
    net = lora(tiny_encoder_decoder(num_kv_heads=2), ALL)
    assert len(layers(net)) == 2 * 2 + 2 * 5  # qkv and out; and q_proj, kv_proj and out of cross


@pytest.mark.parametrize("rank", [9, 33])
def test_a_rank_above_the_width_is_told(rank: int) -> None:
    with pytest.raises(ValueError, match=f"adapter.rank={rank}: above the width 8; lower it"):
        lora(tiny_decoder(num_kv_heads=1), ["q", "k"], rank)


# --- merging ---


@pytest.mark.parametrize("cache", members("cache"))
@torch.inference_mode()
def test_merged_is_unmerged_through_every_cache(cache: str) -> None:
    net, ids = lora(tiny_decoder(num_kv_heads=2), ALL), random_ids(2, LENGTH)
    before = in_chunks(net, ids, cache, CHUNKINGS["borders"])
    merge(net)
    after = in_chunks(net, ids, cache, CHUNKINGS["borders"])
    torch.testing.assert_close(after, before, rtol=0, atol=1e-5 * before.std().item() * 10)


def merge(net: Net) -> None:
    LoRA(rank=1, alpha=1.0, targets=["q"], lr=1e-3).merge(net)


def test_merging_twice_counts_once_and_unmerging_restores() -> None:
    net, ids = lora(tiny_decoder(), ALL), random_ids(2, 7)
    base = {k: v.clone() for k, v in net.state_dict().items()}
    merge(net)
    once = [layer.weight.clone() for layer in layers(net)]
    merge(net)
    assert all(torch.equal(x, layer.weight) for x, layer in zip(once, layers(net), strict=True))
    assert not torch.equal(once[0], base["stack.blocks.0.attention.qkv.weight"])
    merged = net(ids)
    for _ in range(2):
        for layer in layers(net):
            layer.unmerge()
    for name, tensor in net.state_dict().items():
        torch.testing.assert_close(tensor, base[name], rtol=0, atol=1e-5)
    torch.testing.assert_close(net(ids), merged, rtol=0, atol=1e-4)


def test_a_merged_net_is_saved_as_its_base_and_trained_unmerged() -> None:
    """So that no update is ever counted twice: after loading, and in training."""
    net, ids = lora(tiny_decoder(), ALL), random_ids(2, 7)
    before, base = net(ids), {k: v.clone() for k, v in net.state_dict().items()}
    merge(net)
    for name, tensor in net.state_dict().items():
        torch.testing.assert_close(tensor, base[name], rtol=0, atol=1e-5)
    own = {name: tensor for name, tensor in base.items() if "lora" in name}
    net.load_state_dict(own, strict=False)
    torch.testing.assert_close(net(ids), before, rtol=0, atol=1e-4)
    merge(net)
    net.train()
    assert not any(layer.merged for layer in layers(net))
    net(ids).sum().backward()
    assert all(layer.lora_b.grad.abs().sum() > 0 for layer in layers(net))
    net.eval()
    torch.testing.assert_close(net(ids), before, rtol=0, atol=1e-4)


# --- parity with peft, on a GPT-2 of transformers ---


@pytest.fixture
def gpt2():
    """A GPT-2 in float64 and our net with its weights."""
    transformers = pytest.importorskip("transformers", reason="the oracle is not installed")
    pytest.importorskip("peft", reason="the oracle is not installed")
    config = transformers.GPT2Config(
        vocab_size=20, n_positions=64, n_embd=32, n_layer=2, n_head=4, n_inner=128,
        activation_function="gelu", resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
        tie_word_embeddings=False, bos_token_id=1, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    theirs = transformers.GPT2LMHeadModel(config).double().eval()
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.3)
    ours = tiny_decoder("learned", qk_norm=False, bias=True, norm_gain=True).double()
    own, body = ours.state_dict(), theirs.transformer
    own["embedding.weight"], own["posenc.table.weight"] = body.wte.weight, body.wpe.weight
    own["head.weight"] = theirs.lm_head.weight
    for index, block in enumerate(body.h):
        pairs = {
            "attention_norm": block.ln_1, "ffn_norm": block.ln_2,
            "attention.qkv": block.attn.c_attn, "attention.out": block.attn.c_proj,
            "ffn.up": block.mlp.c_fc, "ffn.down": block.mlp.c_proj,
        }  # fmt: skip
        for name, layer in pairs.items():
            is_norm = name.endswith("norm")  # their linear layers store the transpose
            weight = layer.weight if is_norm else layer.weight.mT
            own[f"stack.blocks.{index}.{name}.weight"] = weight
            own[f"stack.blocks.{index}.{name}.bias"] = layer.bias
    own["stack.norm.weight"], own["stack.norm.bias"] = body.ln_f.weight, body.ln_f.bias
    ours.load_state_dict({name: tensor.detach().clone() for name, tensor in own.items()})
    ids = random_ids(2, 9)
    torch.testing.assert_close(ours(ids), theirs(ids).logits, rtol=0, atol=1e-9)
    return ours, theirs


WARNED = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # peft's


def loss(logits: Tensor) -> Tensor:
    return (logits.logsumexp(-1) * torch.linspace(1, 2, logits.shape[1]).double()).sum()


@WARNED
def test_outputs_and_gradients_are_those_of_peft(gpt2) -> None:
    """Its update of the fused map has one A for q, k and v, so ours has it three times."""
    import peft

    ours, theirs = gpt2
    how = {"r": 4, "lora_alpha": 6, "lora_dropout": 0.0, "fan_in_fan_out": True}
    adapted = peft.get_peft_model(
        theirs, peft.LoraConfig(**how, target_modules=["c_attn", "attn.c_proj"])
    ).double()
    lora(ours, ALL, rank=4, alpha=6.0)
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            nn.init.normal_(parameter, std=0.3)
    pairs = []
    for block, other in zip(ours.blocks(), theirs.transformer.h, strict=True):
        for own, its in ((block.attention.qkv, other.attn.c_attn),
                         (block.attention.out, other.attn.c_proj)):  # fmt: skip
            a, b = its.lora_A.default.weight, its.lora_B.default.weight
            own.lora_a.data = a.detach().repeat(len(own.lora_a) // 4, 1)
            own.lora_b.data = b.detach().clone()
            pairs.append((own, a, b))
    ids = random_ids(2, 9)
    outs = ours(ids), adapted(ids).logits
    torch.testing.assert_close(*outs, rtol=0, atol=1e-9)
    ours.requires_grad_(False)
    for own, _, _ in pairs:
        own.lora_a.requires_grad_(True), own.lora_b.requires_grad_(True)
    for out in (ours(ids), adapted(ids).logits):
        loss(out).backward()
    for own, a, b in pairs:
        shared = own.lora_a.grad.unflatten(0, (-1, 4)).sum(0)
        torch.testing.assert_close(shared, a.grad, rtol=0, atol=1e-8)
        torch.testing.assert_close(own.lora_b.grad, b.grad, rtol=0, atol=1e-8)
    merge(ours)
    adapted.merge_adapter()
    torch.testing.assert_close(ours(ids), adapted(ids).logits, rtol=0, atol=1e-9)


@WARNED
def test_a_soft_prompt_is_that_of_peft(gpt2) -> None:
    """Its logits have the prompt's columns, ours those of the text; so have the gradients."""
    import peft

    ours, theirs = gpt2
    config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
    adapted = peft.get_peft_model(theirs, config).double()
    SoftPrompt(num_tokens=3, lr=0.1).adapt(ours)
    vectors = adapted.prompt_encoder.default.embedding.weight
    nn.init.normal_(vectors, std=0.3)
    ours.prefix.weight.data = vectors.detach().clone()
    ids = random_ids(2, 9)
    outs = ours(ids), adapted(ids, attention_mask=torch.ones_like(ids)).logits[:, 3:]
    torch.testing.assert_close(*outs, rtol=0, atol=1e-9)
    for out in outs:
        loss(out).backward()
    torch.testing.assert_close(ours.prefix.weight.grad, vectors.grad, rtol=0, atol=1e-8)
