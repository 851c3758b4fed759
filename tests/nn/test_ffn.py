"""Each FFN against its formula."""

import pytest
import torch
import torch.nn.functional as F

from micro_transformer.nn.ffn.relu2 import SquaredReLU
from tests.conftest import build, members, tiny_dims

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
    gate, up = ffn.gate_up.weight.chunk(2)
    torch.testing.assert_close(ffn(x), (F.silu(x @ gate.T) * (x @ up.T)) @ ffn.down.weight.T)


def test_the_slope_of_a_squared_relu() -> None:
    x = torch.tensor([-2.0, -0.5, 0.0, 0.3, 4.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(SquaredReLU.apply, x)
    assert SquaredReLU.apply(x).tolist() == [0, 0, 0, pytest.approx(0.09), 16]


@pytest.mark.parametrize("name", members("ffn"))
def test_every_ffn_counts_the_same_parameters_and_names_its_outputs(name: str) -> None:
    ffn = build("ffn", name, tiny_dims(d_model=96))
    count = sum(p.numel() for p in ffn.parameters())
    assert count == pytest.approx(8 * 96**2, rel=0.01)
    assert [tuple(w.shape)[0] for w in ffn.outputs()] == [96]
    assert ffn.auxiliary_loss() == 0
