"""Laws of adapters: what they train, what they leave alone, and that a cache changes nothing."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from micro_transformer.config.schema import read_choice
from micro_transformer.config.sections import Train
from micro_transformer.decoding.greedy import Greedy
from micro_transformer.evals.probes import attention_maps
from micro_transformer.generation import generate
from micro_transformer.nn.arch.base import Net
from micro_transformer.nn.padding import positions
from micro_transformer.nn.parameter_kinds import parameter_kinds
from micro_transformer.training.optimizers import Optimizers
from tests.conftest import (
    build,
    facts,
    make_cache,
    members,
    random_ids,
    tiny_decoder,
    tiny_encoder,
    tiny_encoder_decoder,
)
from tests.laws.test_cache import CHUNKINGS, LENGTH, assert_equal, in_chunks

ADAPTERS = members("adapter")
ADDING = [name for name in ADAPTERS if name not in ("none", "head_only")]
PROMPTS = [name for name in ADAPTERS if "prompt" in name]
SILENT = [name for name in ADAPTERS if name not in PROMPTS]  # change nothing at step 0
EXACT = [c for c in members("cache") if facts("cache", c)["exact"]]
EXACT += [c for c in members("cache") if facts("cache", c).get("logit_error")]
WRITERS = {"decoder": tiny_decoder, "encoder_decoder": tiny_encoder_decoder}
NETS = {**WRITERS, "encoder": tiny_encoder}
# Parameters that each adapter trains, by the end of their names; none: all of them.
TRAINED: dict[str, tuple[str, ...]] = {
    "none": ("",),
    "head_only": ("head.weight",),
    "lora": ("lora_a", "lora_b"),
    "soft_prompt": ("prefix.weight",),
    "lora_soft_prompt": ("lora_a", "lora_b", "prefix.weight"),
    "bottleneck": ("ffn.down.weight", "ffn.down.bias", "ffn.up.weight", "ffn.up.bias"),
}
BOTTLENECK_BASE = (".ffn.ffn.",)  # the FFN inside


def adapt(name: str, net: Net, fresh: tuple[str, ...] = ()) -> Net:
    build("adapter", name).adapt(net, fresh)
    return net


def loud(name: str, net: Net) -> Net:
    """The adapted net, whose adapter does something."""
    adapt(name, net)
    if name in ADDING:
        for parameter in net.parameters():
            if parameter.requires_grad:
                torch.nn.init.normal_(parameter, std=0.3)
    return net


def logits(net: Net, ids: Tensor, **knobs: Any) -> Tensor:
    if "source_target" in net.reads:  # type: ignore[attr-defined]
        knobs["source"] = ids.flip(1)
    return net(ids, **knobs)


def is_trained(name: str, parameter: str) -> bool:
    inside = name == "bottleneck" and any(part in parameter for part in BOTTLENECK_BASE)
    return parameter.endswith(TRAINED[name]) and not inside


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("name", SILENT)
def test_at_step_0_the_net_is_its_base_bit_by_bit(name: str, net: str, kv_heads: int) -> None:
    model, ids = NETS[net](num_kv_heads=kv_heads, bias=True), random_ids(2, 7)
    before = logits(model, ids)
    assert torch.equal(logits(adapt(name, model), ids), before)


@pytest.mark.parametrize("posenc", members("posenc"))
@pytest.mark.parametrize("knobs", [{}, {"key_shift": True}, {"embedding_norm": True}])
def test_a_prompt_of_words_is_a_text_that_begins_with_them(posenc: str, knobs: Any) -> None:
    """At step 0 the prompt is the embeddings of some tokens: positions, masks and the shift of keys
    are those of a longer text."""
    net, ids = tiny_decoder(posenc, **knobs), random_ids(2, 7)
    words = torch.tensor([4, 9, 2])
    longer = torch.cat((words.expand(2, -1), ids), 1)
    expected = net(longer)[:, 3:]
    adapt("soft_prompt", net).prefix.weight.data = net.embedding.weight.data[words]
    torch.testing.assert_close(net(ids), expected, rtol=0, atol=1e-6)


def test_a_prompt_begins_as_words_and_is_drawn_anew_by_each_seed() -> None:
    found = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        net = adapt("soft_prompt", tiny_decoder())
        prompt, table = net.prefix.weight, net.embedding.weight
        assert all((row == table[1:]).all(1).any() for row in prompt)
        torch.manual_seed(seed)
        words = [int((row == table).all(1).nonzero()[0]) for row in prompt]
        found.append(words)
    assert found[0] != found[2]


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("name", ADAPTERS)
def test_only_what_the_adapter_declares_is_trained(name: str, net: str) -> None:
    model = adapt(name, NETS[net](bias=True))
    asked = {n for n, p in model.named_parameters() if p.requires_grad}
    assert asked == {n for n, _ in model.named_parameters() if is_trained(name, n)} and asked
    own = model.trained_state()
    assert own.keys() == asked
    kinds = dict(parameter_kinds(model))
    if name in ADDING:
        assert {kinds[p].name for p in model.parameters() if p.requires_grad} <= {
            "adapter", "prompt", "bias",
        }  # fmt: skip


@pytest.mark.parametrize("name", ADAPTERS)
def test_a_head_that_the_base_lacks_is_trained_too(name: str) -> None:
    model = adapt(name, tiny_decoder(), fresh=("head.weight",))
    assert model.head.weight.requires_grad
    assert model.embedding.weight.requires_grad == (name == "none")


def recipe(optimizer: str) -> Train:
    knobs = read_choice("train", "smoke") | {"optimizer": optimizer, "weight_decay": 0.5}
    return Train(**{**knobs, "precision": "fp32", "matrix_dtype": "fp32", "threads": 1})


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("name", ADAPTERS)
def test_frozen_weights_keep_their_bits_under_weight_decay(
    name: str, net: str, optimizer: str
) -> None:
    """They get no gradient and no optimizer state; all that is trained moves."""
    model = adapt(name, NETS[net](bias=True)).train()
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    made = Optimizers(model, recipe(optimizer), "cpu")
    for step in range(4):
        made.set_rate(step)
        made.backward(logits(model, random_ids(2, 7)).logsumexp(-1).mean())
        for n, p in model.named_parameters():
            assert (p.grad is not None) == is_trained(name, n), n
        made.update()
    for n, p in model.named_parameters():
        assert torch.equal(p, before[n]) != is_trained(name, n), n
    known = {id(p) for member in made.members.values() for p in member.state}
    assert known == {id(p) for p in model.parameters() if p.requires_grad}
    if name in ADDING:
        assert made.members.keys() == {"adamw"}


def test_adapters_and_prompts_have_rates_and_a_fresh_head_has_the_recipes() -> None:
    """Adapters decay, prompts and heads do not."""
    net = adapt("lora_soft_prompt", tiny_decoder(), fresh=("head.weight",))
    lora, prompt = (read_choice("adapter", "lora_soft_prompt")[k] for k in ("lr", "prompt_lr"))
    assert lora != prompt
    plan = recipe("muon")
    made = Optimizers(net, plan, "cpu")
    made.set_rate(plan.warmup_steps)
    named = {p: n for n, p in net.named_parameters()}
    found = {
        (named[p].rpartition(".")[2], group["lr"], group["weight_decay"])
        for group in made.param_groups
        for p in group["params"]
        if p is not net.head.weight
    }
    assert found == {("lora_a", lora, 0.5), ("lora_b", lora, 0.5), ("weight", prompt, 0.0)}
    (head,) = [g for g in made.param_groups if any(p is net.head.weight for p in g["params"])]
    assert (head["lr"], head["weight_decay"]) == (plan.lr, 0.0)


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("name", ADAPTERS)
def test_its_own_state_and_the_bases_make_the_net_again(name: str, net: str) -> None:
    model = NETS[net](num_kv_heads=2)
    base = {k: v.clone() for k, v in model.state_dict().items()}
    ids, own = random_ids(2, 7), loud(name, model).trained_state()
    again = NETS[net](num_kv_heads=2)
    again.load_state_dict(base)
    adapt(name, again).load_state_dict(own, strict=name == "none")
    assert torch.equal(logits(again, ids), logits(model, ids))
    if name in ADDING:
        share = sum(t.numel() for t in own.values()) / sum(t.numel() for t in base.values())
        assert share < 0.3


@pytest.mark.parametrize("chunking", CHUNKINGS)
@pytest.mark.parametrize("cache", EXACT)
@pytest.mark.parametrize("name", ADDING)
@torch.inference_mode()
def test_cached_and_chunked_equal_full(name: str, cache: str, chunking: str) -> None:
    net, ids = loud(name, tiny_decoder(num_kv_heads=2, key_shift=True)), random_ids(2, LENGTH)
    out = in_chunks(net, ids, cache, CHUNKINGS[chunking])
    assert out.shape == (2, LENGTH, 20)
    assert_equal(cache, out, net(ids))


@pytest.mark.parametrize("pattern", ["full", "sliding"])
@pytest.mark.parametrize("posenc", members("posenc"))
@pytest.mark.parametrize("cache", ["contiguous", "paged", "none"])
@pytest.mark.parametrize("name", PROMPTS)
@torch.inference_mode()
def test_a_row_with_pads_before_or_after_its_text_is_the_row_alone(
    name: str, cache: str, posenc: str, pattern: str
) -> None:
    """The prompt directly precedes the text, so that a window reaches as far as without pads."""
    net = loud(name, tiny_decoder(posenc, pattern=pattern, key_shift=True))
    ids = random_ids(3, LENGTH)
    ids[0, :4], ids[1, -3:] = 0, 0
    alone = [net(row[row != 0][None])[0] for row in ids]
    pos = positions(ids)
    whole = net(ids, pos=pos)
    for row, real, expected in zip(whole, ids != 0, alone, strict=True):
        torch.testing.assert_close(row[real], expected, rtol=0, atol=1e-5)
    left = torch.tensor([0, 2])
    out = in_chunks(net, ids[left], cache, [5, 1, 7], pos[left])
    for row, real, expected in zip(out, ids[left] != 0, [alone[0], alone[2]], strict=True):
        torch.testing.assert_close(row[real], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("net", WRITERS)
@pytest.mark.parametrize("name", ADDING)
def test_texts_are_the_same_from_every_cache(name: str, net: str) -> None:
    """The cache is as long as the text and the prompt."""
    model, ids = loud(name, NETS[net]()), random_ids(3, 5)
    ids[1, :2] = 0
    reading = {"source": ids.flip(1)} if net == "encoder_decoder" else {}
    found = [
        generate(model, ids, Greedy(), 9, make_layer=lambda s, c=c: build("cache", c, s), **reading)
        for c in ("none", "contiguous", "paged")
    ]
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


@pytest.mark.parametrize("pooling", ["cls", "mean", "none"])
def test_an_encoder_reads_the_prompt_as_words_and_pools_the_text_alone(pooling: str) -> None:
    """Pads at either end change nothing; [CLS] is the first token of the text."""
    net, ids = tiny_encoder(pooling=pooling, num_outputs=3).double(), random_ids(3, 7)
    words = torch.tensor([4, 9, 2])
    longer = torch.cat((words.expand(3, -1), ids), 1)
    hidden = net.hidden(longer)[:, 3:]
    adapt("soft_prompt", net).prefix.weight.data = net.embedding.weight.data[words]
    net.prefix.num_tokens = 3
    expected = net.logits(net.pool(hidden, positions(ids)))
    torch.testing.assert_close(net(ids), expected, rtol=0, atol=1e-10)
    pads = ids.new_zeros(3, 2)
    for padded, real in (((ids, pads), slice(0, 7)), ((pads, ids), slice(2, 9))):
        out = net(torch.cat(padded, 1))
        out = out[:, real] if pooling == "none" else out
        torch.testing.assert_close(out, expected, rtol=0, atol=1e-10)


def test_the_source_of_an_encoder_decoder_has_the_prompt() -> None:
    """Its weights on the source are those on real tokens."""
    net, ids, source = (
        loud("soft_prompt", tiny_encoder_decoder()),
        random_ids(2, 4),
        random_ids(2, 6),
    )
    short, padded = source.clone(), source.clone()
    padded[0, 4:] = 0
    memory = net.encode(short)
    assert memory.pos.shape == (2, 9)
    _hidden, weights = net.hidden_and_source_attention(ids, None, None, memory)
    assert weights.shape == (2, 4, 6) and (weights.sum(-1) < 1).all()
    alone = net(ids[:1], source=source[:1, :4])
    torch.testing.assert_close(net(ids, source=padded)[:1], alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ADDING)
def test_a_learned_table_has_room_for_prompt_and_text(name: str) -> None:
    net = adapt(name, tiny_decoder("learned", max_len=16))
    room = 16 - net.cached_prefix
    layer = {"make_layer": lambda spec: build("cache", "contiguous", spec)}
    assert generate(net, random_ids(1, 4), Greedy(), room - 4, **layer).shape == (1, room)
    with pytest.raises(ValueError, match=f"passes the {room} positions of the learned table"):
        generate(net, random_ids(1, 4), Greedy(), room - 3, **layer)


def test_maps_of_attention_are_those_between_the_tokens_of_the_text() -> None:
    net, ids = loud("soft_prompt", tiny_decoder()), random_ids(2, 6)
    for maps in attention_maps(net, ids):
        assert maps.shape == (2, 4, 6, 6) and (maps.sum(-1) < 1).all()


@pytest.mark.parametrize("name", ADAPTERS)
def test_checkpointed_gradients_are_the_same(name: str) -> None:
    found = []
    for checkpointed in (False, True):
        torch.manual_seed(3)
        net = loud(name, tiny_decoder()).train()
        if checkpointed:
            net.use_checkpointing()
        net(random_ids(2, 7)).logsumexp(-1).mean().backward()
        found.append([p.grad for p in net.parameters() if p.requires_grad])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
    assert all(math.isfinite(g.sum()) for g in found[0])


def test_a_head_that_is_the_embedding_is_no_head_alone() -> None:
    with pytest.raises(ValueError, match=r"use model.tied_embeddings=false$"):
        adapt("head_only", tiny_decoder(tied_embeddings=True))


@torch.inference_mode()
def test_a_cache_reserves_room_for_the_prompt() -> None:
    net = adapt("soft_prompt", tiny_decoder())
    cache = make_cache("contiguous", net, 2, 5)
    net(random_ids(2, 5), cache)
    assert cache.length == 8
