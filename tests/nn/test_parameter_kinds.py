"""Each parameter has exactly one kind, and initialisation follows it."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import nn

from micro_transformer.nn.parameter_kinds import BIAS, KINDS, parameter_kinds
from micro_transformer.nn.transformer import Block, Stack, initialise
from tests.conftest import (
    build,
    members,
    tiny_decoder,
    tiny_dims,
    tiny_encoder,
    tiny_encoder_decoder,
)
from tests.nn.toys import Encoder, LearnedBias, Routed

KNOBS = {"bias": True, "norm_gain": True, "embedding_norm": True}
NETS: dict[str, Callable[[], nn.Module]] = {
    **{f"posenc {name}": lambda name=name: tiny_decoder(name, **KNOBS)
       for name in members("posenc")},
    **{f"ffn {name}": lambda name=name: tiny_decoder(ffn=name, **KNOBS) for name in members("ffn")},
    **{f"attention {name}": lambda name=name: tiny_decoder(attention=name, **KNOBS)
       for name in members("attention")},
    "rms": lambda: tiny_decoder(norm="rms", norm_gain=True),
    "tied": lambda: tiny_decoder(tied_embeddings=True),
    "encoder-decoder": lambda: tiny_encoder_decoder("learned", **KNOBS),
    "encoder": lambda: tiny_encoder("learned", pooling="cls", num_outputs=3, **KNOBS),
    "toy encoder": lambda: Encoder(tiny_dims(**KNOBS)),
    "routed": lambda: Routed(tiny_dims()),
    "learned bias": lambda: LearnedBias(tiny_dims()),
}  # fmt: skip


@pytest.mark.parametrize("name", NETS)
def test_every_parameter_has_exactly_one_kind(name: str) -> None:
    net, found = NETS[name](), {}
    for parameter, kind in parameter_kinds(net):
        found.setdefault(parameter, set()).add(kind)
    assert found.keys() == set(net.parameters())
    assert all(len(kinds) == 1 for kinds in found.values())


def test_a_parameter_without_a_kind_is_named_with_the_cure() -> None:
    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gate = nn.Parameter(torch.zeros(2))

    with pytest.raises(ValueError, match=r"^1: Gated.gate has no kind; declare it in Gated.kinds$"):
        list(parameter_kinds(nn.Sequential(nn.Linear(2, 2), Gated())))


def test_a_subclass_adds_kinds_to_those_of_its_base() -> None:
    class Adapted(nn.Linear):
        kinds = {"extra": BIAS}

        def __init__(self) -> None:
            super().__init__(2, 2)
            self.extra = nn.Parameter(torch.zeros(2))

    kinds = [kind.name for _, kind in parameter_kinds(Adapted())]
    assert kinds == ["matrix", "bias", "bias"]


def test_each_kind_has_its_own_initial_values() -> None:
    toy = OfEachKind(64)
    initialise(toy, [], zero_init=False)
    for name, parameter in toy.named_parameters():
        if name in ("adapter", "prompt", "gain"):
            assert (parameter == 7).all(), name
        elif name == "bias":
            assert not parameter.any()
        else:
            assert parameter.std().item() == pytest.approx(0.02, rel=0.1), name


class OfEachKind(nn.Module):
    """One parameter of each kind, named after it, filled with 7."""

    kinds = {kind.name.replace(" ", "_"): kind for kind in KINDS}

    def __init__(self, size: int):
        super().__init__()
        for name in self.kinds:
            shape = {"expert_stack": (3, size, size), "gain": (size,), "bias": (size,)}
            values = torch.full(shape.get(name, (size, size)), 7.0)
            self.register_parameter(name, nn.Parameter(values))


@pytest.mark.parametrize("names", [("attention", "ffn"), ("attention", "cross_attention", "ffn")])
def test_residual_weights_shrink_with_the_number_of_branches(names: tuple[str, ...]) -> None:
    """A decoder block with cross-attention has three."""
    dims = tiny_dims(d_model=128, num_layers=5)
    blocks = [
        Block(dims, {name: build("ffn", "gelu", dims) for name in names})
        for _ in range(dims.num_layers)
    ]
    stack = Stack(dims, blocks)
    initialise(stack, [stack], zero_init=False)
    expected = 0.02 / math.sqrt(len(names) * dims.num_layers)
    sublayers = stack.sublayers()
    assert len(sublayers) == len(names) * dims.num_layers
    for sublayer in sublayers:
        for weight in sublayer.residual_outputs():
            assert weight.std().item() == pytest.approx(expected, rel=0.05)


def test_expert_stacks_shrink_as_one_branch() -> None:
    dims = tiny_dims(d_model=64)
    stack = Stack(dims, [Block(dims, {"ffn": Routed(dims)})])
    initialise(stack, [stack], zero_init=True)
    assert not stack.blocks[0].ffn.down.any() and stack.blocks[0].ffn.up.all()
