"""Each FFN against its formula."""

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from micro_transformer.nn.ffn.relu2 import SquaredReLU
from tests.conftest import build, members, tiny_decoder, tiny_dims
from tests.nn.toys import Routed

ACTIVATIONS = {"gelu": F.gelu, "relu2": lambda x: F.relu(x) ** 2}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_a_plain_ffn_is_two_matrices_and_an_activation(name: str) -> None:
    ffn, x = build("ffn", name, tiny_dims(bias=True)), torch.randn(2, 5, 32)
    expected = F.linear(
        ACTIVATIONS[name](F.linear(x, ffn.up.weight, ffn.up.bias)), ffn.down.weight, ffn.down.bias
    )
    torch.testing.assert_close(ffn(x), expected)


def test_swiglu_gates_one_half_by_the_other() -> None:
    ffn, x = build("ffn", "swiglu", tiny_dims()), torch.randn(2, 5, 32)
    gate, up = ffn.up.weight.chunk(2)
    torch.testing.assert_close(ffn(x), (F.silu(x @ gate.T) * (x @ up.T)) @ ffn.down.weight.T)


def test_the_slope_of_a_squared_relu() -> None:
    x = torch.tensor([-2.0, -0.5, 0.0, 0.3, 4.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(SquaredReLU.apply, x)
    assert SquaredReLU.apply(x).tolist() == [0, 0, 0, pytest.approx(0.09), 16]


@pytest.mark.parametrize("name", members("ffn"))
def test_every_ffn_counts_the_same_active_parameters_and_names_its_outputs(name: str) -> None:
    """But for the twin of as many in total, twice as wide."""
    ffn = build("ffn", name, tiny_dims(d_model=96))
    expected = 8 * 96**2 * (2 if name == "iso_total" else 1)
    assert ffn.active_params() == pytest.approx(expected, rel=0.01)
    assert [tuple(w.shape)[-2] for w in ffn.residual_outputs()] == [96]


@pytest.mark.parametrize("name", [*members("ffn"), "routed"])
def test_operations_and_parameters_per_token_are_those_counted(name: str) -> None:
    """Operations as torch counts them in a forward pass."""
    dims = tiny_dims(bias=True)
    ffn = Routed(dims) if name == "routed" else build("ffn", name, dims)
    total = sum(p.numel() for p in ffn.parameters())
    x = torch.randn(2, 5, 32)
    with FlopCounterMode(display=False) as counted:
        ffn(x)
    unused = 0
    if name == "routed":  # the toy runs every expert on every token
        unused = 2 * ffn.up[1:].numel() + 2 * ffn.down[1:].numel()
    assert counted.get_total_flops() / 10 == ffn.flops_per_token() + unused
    assert (ffn.active_params() < total) == (name in ("routed", "moe"))


def test_a_net_counts_the_experts_that_a_token_goes_through() -> None:
    net = tiny_decoder(num_layers=1)
    dense = net.blocks()[0].ffn
    params, flops = net.active_params(), net.flops_per_token()
    routed = net.blocks()[0].ffn = Routed(net.dims)
    assert params == sum(p.numel() for p in net.parameters()) - _count(routed) + _count(dense)
    assert net.active_params() - params == routed.active_params() - _count(dense)
    assert net.flops_per_token() - flops == 2 * (routed.active_params() - _count(dense))


def _count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
