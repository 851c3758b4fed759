"""The encoder: parity with torch's, pads, order, and what its head reads."""

import pytest
import torch
from torch import Tensor, nn

from micro_transformer.nn.padding import PAD, positions
from tests.conftest import facts, make_cache, members, random_ids, tiny_encoder, trainable_kernels
from tests.nn.test_encoder_decoder import NAMES, padded_source

POSENCS, KERNELS, POOLINGS = members("posenc"), trainable_kernels(), ("cls", "mean", "none")


def in_names_of_torch(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights, or gradients of them, of the stack as torch.nn.TransformerEncoder names them."""
    out = {}
    for name, value in tensors.items():
        if name.startswith("stack."):
            name = name.removeprefix("stack.").replace("blocks.", "layers.")
            for ours, theirs in [("ffn_norm", "norm2"), *NAMES]:
                name = name.replace(ours, theirs)
            out[name] = value
    return out


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
def test_parity_with_torch_by_copied_weights() -> None:
    """Forward and gradients, with pads on either side; pads themselves are not compared."""
    net = tiny_encoder("none", "gelu", bias=True, norm_gain=True, qk_norm=False).double()
    layer = nn.TransformerEncoderLayer(
        32, 4, 128, 0.0, "gelu", batch_first=True, norm_first=True, dtype=torch.float64
    )
    oracle = nn.TransformerEncoder(layer, 2, nn.LayerNorm(32, dtype=torch.float64)).train()
    oracle.load_state_dict(in_names_of_torch(net.state_dict()))
    ids = padded_source()
    real = ids != PAD
    expected = oracle(net.embedding(ids), src_key_padding_mask=~real)[real]
    out = net.hidden(ids)[real]
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-10)
    weighing = torch.randn_like(out)
    weights = {name: p for name, p in net.named_parameters() if name.startswith("stack.")}
    grads = torch.autograd.grad((out * weighing).sum(), list(weights.values()))
    found = in_names_of_torch(dict(zip(weights, grads, strict=True)))
    theirs = dict(oracle.named_parameters())
    grads = torch.autograd.grad((expected * weighing).sum(), list(theirs.values()))
    wanted = dict(zip(theirs, grads, strict=True))
    assert found.keys() == wanted.keys()
    for name, grad in found.items():
        torch.testing.assert_close(grad, wanted[name], rtol=0, atol=1e-10)


@pytest.mark.parametrize("attention", KERNELS)
@pytest.mark.parametrize("posenc", POSENCS)
@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("shift", [False, True])
def test_a_row_is_what_it_is_alone_without_pads(
    posenc: str, attention: str, pooling: str, shift: bool
) -> None:
    net = tiny_encoder(posenc, attention=attention, pooling=pooling, key_shift=shift).double()
    ids = padded_source()
    out = net(ids)
    for row in range(3):
        real = ids[row] != PAD
        alone = net(ids[row][real][None])[0]
        found = out[row, real] if pooling == "none" else out[row]
        torch.testing.assert_close(found, alone, rtol=0, atol=1e-10)


@pytest.mark.parametrize("attention", KERNELS)
@pytest.mark.parametrize("pooling", POOLINGS)
def test_poisoned_pads_are_never_read(attention: str, pooling: str) -> None:
    net = tiny_encoder(attention=attention, pooling=pooling)
    ids = padded_source()
    expected = net(ids)
    with torch.no_grad():
        net.embedding.weight[PAD] = 1e4
    found = net(ids)
    real = ids != PAD if pooling == "none" else slice(None)
    torch.testing.assert_close(found[real], expected[real])


@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_row_of_pads_alone_is_finite(pooling: str) -> None:
    net, ids = tiny_encoder(pooling=pooling), padded_source()
    ids[1] = PAD
    out = net(ids)
    out.logsumexp(-1).sum().backward()
    assert out.isfinite().all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize("posenc", POSENCS)
def test_the_order_of_tokens_matters_where_positions_are_told(posenc: str) -> None:
    """A permutation, not a reversal: ALiBi's distances are the same backwards."""
    net = tiny_encoder(posenc, pooling="mean").double()
    ids = torch.tensor([[1, 2, 3, 4, 5, 6]])
    moved = ids[:, [0, 3, 1, 5, 2, 4]]
    is_same = torch.allclose(net(ids), net(moved), rtol=0, atol=1e-9)
    assert is_same == (posenc == "none")


def test_every_token_sees_the_last() -> None:
    net, ids = tiny_encoder(), random_ids(1, 6)
    changed = ids.clone()
    changed[0, -1] = ids[0, -1] % 19 + 1
    assert ((net(ids) - net(changed)).abs().amax(-1) > 1e-4).all()


@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_head_reads_what_its_pooling_says(pooling: str) -> None:
    net, ids = tiny_encoder(pooling=pooling, num_outputs=3).double(), padded_source()
    hidden, real = net.hidden(ids), ids != PAD
    rows = {
        "cls": [h[r][0] for h, r in zip(hidden, real, strict=True)],
        "mean": [h[r].mean(0) for h, r in zip(hidden, real, strict=True)],
        "none": list(hidden),
    }
    expected = torch.stack(rows[pooling]) @ net.head.weight.T
    assert net(ids).shape == ((3, 7, 3) if pooling == "none" else (3, 3))
    torch.testing.assert_close(net(ids), expected)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_logits_are_formed_where_they_are_asked(pooling: str) -> None:
    net, ids = tiny_encoder(pooling=pooling), padded_source()
    at = torch.rand(ids.shape) < 0.4
    torch.testing.assert_close(net(ids, at=at), net.logits(net.hidden(ids))[at])
    assert net(ids, at=torch.zeros_like(at)).shape == (0, 20)


def test_a_vocabulary_head_may_be_tied_and_one_of_classes_is_its_own() -> None:
    lm, classes = (
        tiny_encoder(pooling=p, tied_embeddings=True, num_outputs=n)
        for p, n in (("none", 20), ("cls", 3))
    )
    assert lm.head.weight is lm.embedding.weight
    assert classes.head.weight.shape == (3, 32)


def test_a_cache_is_refused() -> None:
    net = tiny_encoder()
    with pytest.raises(ValueError, match="writes none; use no cache"):
        net(random_ids(1, 3), make_cache("contiguous", net, 1))


def test_given_positions_are_those_of_the_ids() -> None:
    net, ids = tiny_encoder(), padded_source()
    torch.testing.assert_close(net(ids, pos=positions(ids)), net(ids))


def test_checkpointing_changes_no_gradient() -> None:
    net, ids = tiny_encoder(pooling="cls").train(), padded_source()
    net(ids).logsumexp(-1).sum().backward()
    before = {name: p.grad for name, p in net.named_parameters()}
    net.zero_grad(set_to_none=True)
    net.use_checkpointing()
    net(ids).logsumexp(-1).sum().backward()
    for name, parameter in net.named_parameters():
        torch.testing.assert_close(parameter.grad, before[name])


def test_the_encoder_states_that_it_is_bidirectional() -> None:
    assert facts("arch", "encoder")["bidirectional"] is True
