"""Gradient checkpointing changes no gradient."""

import pytest
import torch

from tests.conftest import members, random_ids, tiny_decoder, trainable_kernels
from tests.nn.toys import LearnedBias, Routed

CHOICES = [(group, choice) for group in ("posenc", "pattern", "ffn") for choice in members(group)]
TOYS = [
    ("routed", {}),
    *(("learned bias", {"attention": choice}) for choice in trainable_kernels()),
]


def net_of(name, **knobs):
    """A net with the toy in place of its own component."""
    net = tiny_decoder(dropout=0.3, **knobs)
    if name == "learned bias":
        net.posenc = LearnedBias(net.dims)
    if name == "routed":
        for block in net.blocks():
            block.ffn = Routed(net.dims)
            for parameter in block.ffn.parameters():
                torch.nn.init.normal_(parameter, std=0.3)
    return net.train()


def gradients(net, ids):
    torch.manual_seed(3)
    loss = net(ids, aux_scale=torch.tensor(0.5)).logsumexp(-1).sum()
    return torch.autograd.grad(loss, list(net.parameters()))


@pytest.mark.parametrize(
    "name, knobs",
    [*((choice, {group: choice}) for group, choice in CHOICES), *TOYS],
)
def test_recomputed_blocks_have_the_same_gradients(name, knobs):
    """Also with a bias that is learned: it is recomputed as it was computed, in each block."""
    net, ids, calls = net_of(name, **knobs), random_ids(2, 9), []
    net.blocks()[0].ffn.register_forward_hook(lambda *_: calls.append(1))
    plain = gradients(net, ids)
    assert len(calls) == 1
    net.use_checkpointing()
    for ours, expected in zip(gradients(net, ids), plain, strict=True):
        assert ours.any()
        torch.testing.assert_close(ours, expected, rtol=1e-6, atol=1e-6 * expected.abs().max())
    assert len(calls) == 3
