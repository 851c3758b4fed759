"""Accepted values work: position encodings and scalings at the limits of every option."""

import copy
import itertools
import math
import typing
from typing import Any

import pytest
import torch

from micro_transformer.config import compatibility, schema
from micro_transformer.config.components import find, make
from micro_transformer.runs.planning import make_plan
from tests.conftest import members, tiny_dims

CONFIG = make_plan(["posenc=rope", "device=cpu", "train.threads=1"]).jobs[0].config
HUGE = 1.7e308


def borders(annotation: Any) -> list[float]:
    """Values at both ends of an option's range and a few inside."""
    _, bounds = typing.get_args(annotation)
    low, high = max(bounds.low, -HUGE), min(bounds.high, HUGE)
    ends = [low, math.nextafter(low, high), low + 1e-9, high]
    return sorted({x for x in (*ends, 1.0, 10_000.0) if bounds.holds(x)})


def choices(group: str, kind: str) -> list[dict[str, Any]]:
    """The component with every combination of limits of its options."""
    knobs = find(group, kind).knobs
    values = itertools.product(*(borders(a) for a in knobs.values()))
    return [{"kind": kind, **dict(zip(knobs, chosen, strict=True))} for chosen in values]


@pytest.mark.parametrize("num_heads", [1, 32, 64])
@pytest.mark.parametrize("scaling", members("scaling"))
def test_a_scaling_that_passes_the_check_turns_by_finite_angles(
    scaling: str, num_heads: int
) -> None:
    config = copy.deepcopy(CONFIG)
    config["model"]["num_heads"] = num_heads
    dims, pos, passed = tiny_dims(d_model=128, num_heads=num_heads), torch.tensor([0, 1, 8191]), 0
    for rope in choices("posenc", "RoPE"):
        net = make("posenc", rope, dims)
        for chosen in choices("scaling", schema.read_choice("scaling", scaling)["kind"]):
            config |= {"posenc": rope, "scaling": chosen}
            if compatibility.conflicts(config):
                continue
            passed += 1
            for original_len, length in ((1, 1), (4, 8192), (8192, 4), (1 << 40, 1)):
                net.stretch(make("scaling", chosen), original_len)
                rotation, scale = net.rotation(pos, torch.float32, length), net.score_scale(length)
                assert rotation.cos.isfinite().all() and rotation.sin.isfinite().all(), chosen
                assert math.isfinite(scale) and scale > 0, chosen
    assert passed or (num_heads == 64 and chosen["kind"] in ("DynamicNTK", "NTK", "YaRN"))


@pytest.mark.parametrize("kind", ["RoPE", "Sinusoidal"])
def test_waves_are_finite_at_both_ends_of_their_base(kind: str) -> None:
    for choice in choices("posenc", kind):
        for width in (2, 8, 128):
            net = make("posenc", choice, tiny_dims(d_model=width, num_heads=1))
            x = net.embed(torch.randn(1, 3, width), torch.tensor([0, 1, 8191]))
            assert x.isfinite().all() and all(b.isfinite().all() for b in net.buffers())


@pytest.mark.parametrize("base", [0.0, 1e-300, 0.999, 1e31, 1e300])
@pytest.mark.parametrize("posenc", ["rope", "sinusoidal"])
def test_a_base_that_no_float32_takes_is_refused_with_its_range(posenc: str, base: float) -> None:
    config = copy.deepcopy(CONFIG)
    config["posenc"] = {**schema.read_choice("posenc", posenc), "base": base}
    (line,) = schema.faults(config)
    assert line.startswith("posenc.base=") and "[1, 1e+30]" in line
