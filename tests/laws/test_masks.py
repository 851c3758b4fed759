"""Laws of masking: outputs depend on no future token and no pad."""

import pytest
import torch
from torch import Tensor

from micro_transformer.generation import positions
from micro_transformer.nn.visibility import CAUSAL, Selective, all_of
from tests.conftest import facts, make_cache, members, random_ids, tiny_decoder

POSENCS, KERNELS, CACHES = members("posenc"), members("attention"), members("cache")
STORING = [name for name in CACHES if facts("cache", name)["stores"]]


def cached(net: torch.nn.Module, ids: Tensor, cache_name: str) -> Tensor:
    """Logits of every token, one token per call."""
    cache = make_cache(cache_name, net, len(ids))
    return torch.cat([net(token, cache) for token in ids.split(1, 1)], 1)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("posenc", POSENCS)
def test_no_token_sees_the_future(posenc: str, kernel: str) -> None:
    net, ids = tiny_decoder(posenc, attention=kernel), random_ids(2, 11)
    changed = ids.clone()
    changed[:, 7] = ids[:, 7] % 19 + 1
    before, after = net(ids), net(changed)
    assert torch.equal(before[:, :7], after[:, :7])
    assert (before[:, 7:] != after[:, 7:]).any(-1).all()


@pytest.mark.parametrize("cache", STORING)
@pytest.mark.parametrize("posenc", POSENCS)
def test_no_token_sees_the_future_in_cached_generation(posenc: str, cache: str) -> None:
    net, ids = tiny_decoder(posenc), random_ids(2, 11)
    changed = ids.clone()
    changed[:, 7] = ids[:, 7] % 19 + 1
    before, after = cached(net, ids, cache), cached(net, changed, cache)
    assert torch.equal(before[:, :7], after[:, :7])
    assert (before[:, 7:] != after[:, 7:]).any(-1).all()


@pytest.mark.parametrize("posenc", POSENCS)
def test_gradients_do_not_flow_from_the_past_to_the_future(posenc: str) -> None:
    net, ids = tiny_decoder(posenc), random_ids(1, 9)
    inputs: list[Tensor] = []
    net.embedding.register_forward_hook(lambda module, args, out: inputs.append(out))
    [gradient] = torch.autograd.grad(net(ids)[0, 4].sum(), inputs)
    assert (gradient[0, 5:] == 0).all()
    assert (gradient[0, :5] != 0).any(-1).all()


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("posenc", POSENCS)
def test_left_pads_are_inert(posenc: str, kernel: str) -> None:
    """Rows of lengths 10, 7, 7, 4. Right padding is no test: the causal mask hides it anyway."""
    net, lengths = tiny_decoder(posenc, attention=kernel), (10, 7, 7, 4)
    ids = random_ids(4, 10)
    for row, length in enumerate(lengths):
        ids[row, : 10 - length] = 0
    out = net(ids, pos=positions(ids))
    for row, length in enumerate(lengths):
        alone = net(ids[row : row + 1, 10 - length :])
        torch.testing.assert_close(out[row : row + 1, 10 - length :], alone, rtol=0, atol=2e-5)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("posenc", POSENCS)
def test_poisoned_pads_change_no_bit(posenc: str, kernel: str) -> None:
    net, ids = tiny_decoder(posenc, attention=kernel), random_ids(2, 8)
    ids[0, :3] = 0
    pos, real = positions(ids), ids != 0
    fill = 0.0
    for block in net.blocks():
        for seam in (block.attention.k, block.attention.v):
            seam.register_forward_hook(
                lambda module, args, out: out.masked_fill(~real[:, None, :, None], fill)
            )
    clean = net(ids, pos=pos)
    fill = 1e4
    poisoned = net(ids, pos=pos)
    assert torch.equal(poisoned[real], clean[real])
    assert poisoned.isfinite().all()


@pytest.mark.parametrize("posenc", POSENCS)
def test_padding_leaves_gradients_finite(posenc: str) -> None:
    net, ids = tiny_decoder(posenc), random_ids(2, 8)
    ids[0, :5] = 0
    net(ids, pos=positions(ids))[ids != 0].logsumexp(-1).sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("posenc", POSENCS)
def test_selective_mask_can_be_switched_on_and_off(posenc: str, kernel: str) -> None:
    """Changing a blocked token changes its own output only, as no other token sees it."""
    net, ids = tiny_decoder(posenc, attention=kernel, num_layers=1), random_ids(1, 9)
    ids[0, 3] = 5
    changed = ids.clone()
    changed[0, 3] = 6
    assert not torch.allclose(net(ids)[0, 4:], net(changed)[0, 4:])
    blocked = torch.zeros(1, 9, dtype=torch.bool)
    blocked[0, 3] = True
    net.visibility = all_of(CAUSAL, Selective(blocked))
    before, after = net(ids), net(changed)
    assert torch.equal(before[0, 4:], after[0, 4:])
    assert not torch.equal(before[0, 3], after[0, 3])
    net.visibility = CAUSAL
    assert not torch.allclose(net(ids)[0, 4:], net(changed)[0, 4:])


def test_a_long_bias_is_formed_by_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Above a size limit bias and mask are computed in slices of queries; logits are equal."""
    net, ids = tiny_decoder("alibi"), random_ids(2, 40)
    whole = net(ids)
    monkeypatch.setattr("micro_transformer.nn.masks.WHOLE", 4 * 40 * 40 - 1)
    monkeypatch.setattr("micro_transformer.nn.masks.PART", 4 * 40 * 7)
    sizes = []
    bias = net.posenc.bias

    def spy(q_pos: Tensor, k_pos: Tensor) -> Tensor:
        sizes.append((len(q_pos), len(k_pos)))
        return bias(q_pos, k_pos)

    monkeypatch.setattr(net.posenc, "bias", spy)
    monkeypatch.setattr(net.posenc, "bias_channels", lambda pos: None)
    torch.testing.assert_close(net(ids), whole, rtol=0, atol=2e-5)
    assert sizes[:6] == [(7, 7), (7, 14), (7, 21), (7, 28), (7, 35), (5, 40)]
    pads = ids.clone()
    pads[0, :4] = 0
    by_rows = net(pads, pos=positions(pads))
    monkeypatch.setattr("micro_transformer.nn.masks.WHOLE", 2**24)
    torch.testing.assert_close(by_rows, net(pads, pos=positions(pads)), rtol=0, atol=2e-5)
