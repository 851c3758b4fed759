"""The encoder-decoder: parity with torch's, its knobs, and what its source does."""

import math

import pytest
import torch
from torch import Tensor, nn

from micro_transformer.data import tokenizer
from micro_transformer.nn import padding
from micro_transformer.nn.linear import Linear
from micro_transformer.nn.padding import PAD
from micro_transformer.nn.transformer import initialise
from tests.conftest import build, members, random_ids, tiny_encoder_decoder, trainable_kernels

POSENCS, KERNELS, FFNS = members("posenc"), trainable_kernels(), members("ffn")
NAMES = [
    (".blocks.", ".layers."),
    ("cross_attention_norm", "norm2"),
    ("cross_attention.out", "multihead_attn.out_proj"),
    ("cross_attention.", "multihead_attn."),
    ("attention_norm", "norm1"),
    ("attention.qkv.", "self_attn.in_proj_"),
    ("attention.out", "self_attn.out_proj"),
    ("ffn.up", "linear1"),
    ("ffn.down", "linear2"),
]


def padded_source(batch: int = 3, length: int = 7) -> Tensor:
    """Real tokens with pads at the right of the first row and at the left of the second."""
    source = random_ids(batch, length)
    source[0, length - 3 :] = PAD
    source[1, :2] = PAD
    return source


def in_names_of_torch(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights, or gradients of them, of both stacks as torch.nn.Transformer names them."""
    out: dict[str, Tensor] = {}
    for name, value in tensors.items():
        if not name.startswith(("encoder.", "decoder.")):
            continue
        norm = "norm3" if name.startswith("decoder.") else "norm2"
        for ours, theirs in [("ffn_norm", norm), *NAMES]:
            name = name.replace(ours, theirs)
        out[name] = value
    for name in [name for name in out if ".q_proj." in name]:
        joined = torch.cat((out.pop(name), out.pop(name.replace(".q_proj.", ".kv_proj."))))
        out[name.replace(".q_proj.", ".in_proj_")] = joined
    return out


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
def test_parity_with_torch_by_copied_weights() -> None:
    """Forward and gradients: order of sub-layers, norm of the memory, both masks of the source."""
    net = tiny_encoder_decoder("none", "gelu", bias=True, norm_gain=True, qk_norm=False).double()
    oracle = nn.Transformer(
        32, 4, 2, 2, 128, 0.0, "gelu", batch_first=True, norm_first=True, dtype=torch.float64
    )
    oracle.load_state_dict(in_names_of_torch(net.state_dict()))
    source, ids = padded_source(), random_ids(3, 5)
    pads = source == PAD
    expected = oracle(
        net.embedding(source),
        net.embedding(ids),
        tgt_mask=torch.ones(5, 5, dtype=torch.bool).triu(1),
        src_key_padding_mask=pads,
        memory_key_padding_mask=pads,
    )
    out = net.hidden(ids, memory=net.encode(source))
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-10)
    weighing = torch.randn_like(out)
    weights = {name: p for name, p in net.named_parameters() if name != "head.weight"}
    grads = torch.autograd.grad((out * weighing).sum(), list(weights.values()))
    ours = dict(zip(weights, grads, strict=True))
    theirs = {**dict(oracle.named_parameters()), "embedding": net.embedding.weight}
    grads = torch.autograd.grad((expected * weighing).sum(), list(theirs.values()))
    wanted = dict(zip(theirs, grads, strict=True))
    found = {**in_names_of_torch(ours), "embedding": ours["embedding.weight"]}
    assert found.keys() == wanted.keys()
    for name, grad in found.items():
        torch.testing.assert_close(grad, wanted[name], rtol=0, atol=1e-10)


def test_a_block_of_the_decoder_reads_itself_then_the_source_then_thinks() -> None:
    encoder, decoder = tiny_encoder_decoder().stacks()
    assert [block.names for block in encoder.blocks] == [("attention", "ffn")] * 2
    assert [b.names for b in decoder.blocks] == [("attention", "cross_attention", "ffn")] * 2


@pytest.mark.parametrize("attention", KERNELS)
@pytest.mark.parametrize("ffn", FFNS)
@pytest.mark.parametrize("posenc", POSENCS)
@pytest.mark.parametrize("kv_heads", [None, 2])
def test_every_weight_learns(posenc: str, ffn: str, attention: str, kv_heads: int | None) -> None:
    knobs = {"bias": True, "norm_gain": True, "num_kv_heads": kv_heads, "qk_norm": False}
    net = tiny_encoder_decoder(posenc, ffn, attention, **knobs).train()
    net(random_ids(3, 5), source=padded_source()).logsumexp(-1).mean().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("attention", KERNELS)
@pytest.mark.parametrize("posenc", POSENCS)
@pytest.mark.parametrize("kv_heads", [None, 1, 2])
def test_a_row_is_what_it_is_alone_without_pads(
    posenc: str, attention: str, kv_heads: int | None
) -> None:
    """Pads of the source at either end, and at the left of the target, change nothing."""
    net = tiny_encoder_decoder(posenc, attention=attention, num_kv_heads=kv_heads).double()
    source, ids = padded_source(), random_ids(3, 5)
    ids[2, :2] = PAD
    out = net(ids, pos=padding.positions(ids), source=source)
    for row in range(3):
        real = source[row][source[row] != PAD][None], ids[row][ids[row] != PAD][None]
        alone = net(real[1], source=real[0])[0]
        torch.testing.assert_close(out[row, ids[row] != PAD], alone, rtol=0, atol=1e-10)


@pytest.mark.parametrize("attention", KERNELS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_source_of_pads_alone_is_read_as_nothing(attention: str, dtype: torch.dtype) -> None:
    net = tiny_encoder_decoder(attention=attention).to(dtype)
    source, ids = padded_source(), random_ids(3, 5)
    source[1] = PAD
    out = net(ids, source=source)
    assert out.isfinite().all()
    assert torch.equal(net(ids, source=source.flip(1))[1], out[1])
    out.logsumexp(-1).sum().backward()
    assert all(p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize("attention", KERNELS)
def test_poisoned_pads_are_never_read(attention: str) -> None:
    net = tiny_encoder_decoder(attention=attention)
    ids, memory = random_ids(3, 5), net.encode(padded_source())
    expected = net(ids, memory=memory)
    for tensors in memory.layers:
        for x in tensors:
            x.data.masked_fill_((memory.pos < 0)[:, None, :, None], 1e4)
    torch.testing.assert_close(net(ids, memory=memory), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("posenc", POSENCS)
def test_the_source_has_an_order_by_its_positions_alone(posenc: str) -> None:
    """Without positions the encoder sees a set, as it has no causal mask; cross-attention neither
    rotates nor adds a bias, so keys in another order are the same."""
    net, ids, source = tiny_encoder_decoder(posenc), random_ids(1, 4), random_ids(1, 6)
    order = torch.tensor([3, 0, 5, 1, 2, 4])
    out, moved = net(ids, source=source), net(ids, source=source[:, order])
    assert torch.allclose(out, moved, rtol=0, atol=1e-5) == (posenc == "none")
    memory = net.encode(source)
    memory._layers = [(k[:, :, order], v[:, :, order]) for k, v in memory.layers]
    torch.testing.assert_close(net(ids, memory=memory), out, rtol=0, atol=1e-5)


def test_the_encoder_sees_both_ways_and_the_decoder_back_alone() -> None:
    net, ids, source = tiny_encoder_decoder(), random_ids(1, 6), random_ids(1, 6)
    out, first = net(ids, source=source), net.encode(source).layers[0][0][:, :, 0]
    source[0, 5] = source[0, 5] % 19 + 1
    assert not torch.allclose(net.encode(source).layers[0][0][:, :, 0], first, atol=1e-3)
    assert not torch.allclose(net(ids, source=source)[:, 0], out[:, 0], atol=1e-3)
    out = net(ids, source=source)
    ids[0, 4] = ids[0, 4] % 19 + 1
    torch.testing.assert_close(net(ids, source=source)[:, :4], out[:, :4], rtol=0, atol=0)


def test_a_source_is_needed() -> None:
    with pytest.raises(ValueError, match="source: a net of kind EncoderDecoder reads one"):
        tiny_encoder_decoder()(random_ids(1, 3))


@pytest.mark.parametrize("kernel", KERNELS)
def test_swapping_the_kernel_swaps_it_in_cross_attention_too(kernel: str) -> None:
    net, ids, source = tiny_encoder_decoder(), random_ids(3, 5), padded_source()
    before = net(ids, source=source)
    net.use_kernel(lambda: build("attention", kernel))
    torch.testing.assert_close(net(ids, source=source), before, rtol=0, atol=2e-5)
    kind = type(build("attention", kernel))
    kernels = [m.kernel for m in net.modules() if hasattr(m, "kernel")]
    assert len(set(kernels)) == 6 and all(type(each) is kind for each in kernels)


def test_recomputed_blocks_have_the_same_gradients() -> None:
    net, ids, source = tiny_encoder_decoder(dropout=0.3).train(), random_ids(3, 5), padded_source()

    def gradients() -> tuple[Tensor, ...]:
        torch.manual_seed(3)
        loss = net(ids, source=source, aux_scale=torch.tensor(0.5)).logsumexp(-1).sum()
        return torch.autograd.grad(loss, list(net.parameters()))

    plain = gradients()
    calls: list[int] = []
    for block in net.blocks():
        block.ffn.register_forward_hook(lambda *_: calls.append(1))
    net.use_checkpointing()
    for ours, expected in zip(gradients(), plain, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-6, atol=1e-6 * expected.abs().max())
    assert len(calls) == 8  # twice in each of two layers of two stacks


@pytest.mark.parametrize("kv_heads", [1, 2])
@pytest.mark.parametrize("num_q", [1, 5])
def test_groups_share_keys_and_values(kv_heads: int, num_q: int) -> None:
    """As a net with all heads of keys and values, of which those of a group are equal."""
    net = tiny_encoder_decoder(num_kv_heads=kv_heads).double()
    full, weights = tiny_encoder_decoder().double(), net.state_dict()
    for name, value in weights.items():
        if name.endswith(("qkv.weight", "kv_proj.weight")):
            sizes = (4, kv_heads, kv_heads) if "qkv" in name else (kv_heads, kv_heads)
            *q, k, v = value.view(-1, 8, 32).split(sizes)
            repeated = [x.repeat_interleave(4 // kv_heads, 0) for x in (k, v)]
            weights[name] = torch.cat((*q, *repeated)).flatten(0, 1)
    full.load_state_dict(weights)
    ids, source = random_ids(3, num_q), padded_source()
    assert net.encode(source).layers[0][0].shape == (3, kv_heads, 7, 8)
    torch.testing.assert_close(
        net(ids, source=source), full(ids, source=source), rtol=0, atol=1e-10
    )


def test_source_and_target_share_one_table_which_the_head_may_be_too() -> None:
    for tied in (False, True):
        net = tiny_encoder_decoder(tied_embeddings=tied)
        assert sum(isinstance(m, nn.Embedding) for m in net.modules()) == 1
        assert (net.head.weight is net.embedding.weight) == tied


def test_residual_weights_shrink_with_the_branches_of_their_own_stack() -> None:
    net = tiny_encoder_decoder(d_model=128, num_layers=4)
    initialise(net, net.stacks(), zero_init=False)
    for stack, branches in zip(net.stacks(), (8, 12), strict=True):
        for sublayer in stack.sublayers():
            for weight in sublayer.residual_outputs():
                assert weight.std().item() == pytest.approx(0.02 / math.sqrt(branches), rel=0.1)


@pytest.mark.parametrize("tied", [False, True])
def test_operations_are_those_of_a_token_of_the_target_and_one_of_the_source(tied: bool) -> None:
    net = tiny_encoder_decoder(tied_embeddings=tied)
    seen: list[int] = []
    for module in net.modules():
        if isinstance(module, Linear):
            module.register_forward_hook(lambda m, *_: seen.append(2 * m.weight.numel()))
    net(random_ids(1, 1), source=random_ids(1, 1))
    assert net.flops_per_token() == sum(seen)
    assert net.active_params() == sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize("attention", KERNELS)
@pytest.mark.parametrize("posenc", POSENCS)
def test_a_batch_of_no_rows_has_no_logits_and_no_gradient(posenc: str, attention: str) -> None:
    net = tiny_encoder_decoder(posenc, attention=attention)
    logits = net(torch.zeros(0, 5).long(), source=torch.zeros(0, 7).long())
    assert logits.shape == (0, 5, 20)
    logits.sum().backward()
    assert all(p.grad is not None and not p.grad.any() for p in net.decoder.parameters())


def test_a_net_keeps_its_weights_by_name() -> None:
    net, other = tiny_encoder_decoder(), tiny_encoder_decoder()
    other.load_state_dict(net.state_dict())
    ids, source = random_ids(3, 5), padded_source()
    assert torch.equal(net(ids, source=source), other(ids, source=source))


def test_pads_have_one_id() -> None:
    assert padding.PAD == tokenizer.PAD


def test_half_precision_is_close() -> None:
    net, ids, source = tiny_encoder_decoder(), random_ids(3, 5), padded_source()
    expected = net(ids, source=source)
    with torch.autocast("cpu", torch.bfloat16):
        out = net(ids, source=source)
    torch.testing.assert_close(out.float(), expected, rtol=0, atol=0.1 * expected.std().item())
