"""8-bit quantization: its error bound holds for typical tensors and for edge cases."""

import functools

import pytest
import torch

from micro_transformer.nn.cache.quantization import Quantized

GROUPS, GROUP, WIDTH = 3, 32, 16
SHAPE = (2, 4, GROUPS, GROUP, WIDTH)


def outlier_channel() -> torch.Tensor:
    x = torch.randn(2, 4, GROUPS * GROUP, WIDTH)
    x[..., 3] = 1000 + x[..., 3]
    return x


INPUTS = {
    "normal": lambda: torch.randn(2, 4, GROUPS * GROUP, WIDTH),
    "outlier channel": outlier_channel,
    "constant": lambda: torch.full((2, 4, GROUPS * GROUP, WIDTH), 3.14159),
    "zero": lambda: torch.zeros(2, 4, GROUPS * GROUP, WIDTH),
    "tiny": lambda: 1e-9 * torch.randn(2, 4, GROUPS * GROUP, WIDTH),
    "small range": lambda: 1e-4 * torch.randn(2, 4, GROUPS * GROUP, WIDTH),
    "large": lambda: 6e4 * torch.rand(2, 4, GROUPS * GROUP, WIDTH).mul(2).sub(1),
    "far from zero": lambda: 1000 + 0.05 * torch.rand(2, 4, GROUPS * GROUP, WIDTH),
    "far below zero": lambda: -999.7 - 0.05 * torch.rand(2, 4, GROUPS * GROUP, WIDTH),
    "subnormal": lambda: 1e-40 * torch.randn(2, 4, GROUPS * GROUP, WIDTH),
}


def beyond_half_precision(number: float) -> torch.Tensor:
    x = torch.randn(2, 4, GROUPS * GROUP, WIDTH)
    x[:, :, 5, 3] = number
    return x


BEYOND = [65_504.0, 65_520.0, 1.7e7, 3e38, float("inf")]
INPUTS |= {
    f"{sign * x:g} in one channel": functools.partial(beyond_half_precision, sign * x)
    for x in BEYOND
    for sign in (1, -1)
}


def packed(x: torch.Tensor, axis: int) -> Quantized:
    held = Quantized(SHAPE, axis, x.device)
    for at, group in enumerate(x.split(GROUP, 2)):
        held.put(at, group)
    return held


@pytest.mark.parametrize("axis", [-2, -1])
@pytest.mark.parametrize("name", INPUTS)
def test_what_is_read_is_within_half_a_step(name: str, axis: int) -> None:
    x = INPUTS[name]()
    held = packed(x, axis)
    assert held.get(GROUPS, torch.float16).isfinite().all()
    x = x.clamp(-65_024, 65_024)
    error = (held.get(GROUPS, torch.float32) - x).abs().unflatten(2, (GROUPS, GROUP))
    rounding = 2**-22 * x.abs().unflatten(2, (GROUPS, GROUP))
    assert (error <= held.scale.float() / 2 + rounding).all()
    spread = x.unflatten(2, (GROUPS, GROUP))
    ideal = (spread.amax(axis, keepdim=True) - spread.amin(axis, keepdim=True)) / 255
    least = spread.amin(axis, keepdim=True).abs()
    stated = 1.002 * (ideal + least / 680 / 255) + 2**-22
    assert (held.scale <= stated).all()  # and the step is no larger


def test_a_channel_whose_least_number_is_exact_has_the_step_of_its_range() -> None:
    x = 1000 + 0.05 * torch.linspace(0, 1, GROUP)[:, None].expand(2, 4, -1, WIDTH)
    held = Quantized((2, 4, 1, GROUP, WIDTH), -2, x.device)
    held.put(0, x)
    assert (held.scale <= 1.002 * 0.05 / 255 + 2**-22).all()


def test_the_error_is_real_and_the_bytes_are_bytes() -> None:
    x = torch.randn(2, 4, GROUPS * GROUP, WIDTH)
    held = packed(x, -2)
    assert held.codes.dtype == torch.uint8
    assert (held.get(GROUPS, torch.float32) - x).abs().max() > 1e-3
    assert sum(t.nbytes for t in held.tensors()) < 0.3 * x.nbytes


def test_an_outlier_channel_costs_the_others_nothing() -> None:
    """Why scales are per channel: with one per token the other channels would be lost."""
    x = outlier_channel()
    by_channel, by_token = packed(x, -2), packed(x, -1)
    others = [c for c in range(WIDTH) if c != 3]
    errors = [
        (held.get(GROUPS, torch.float32) - x)[..., others].abs().max()
        for held in (by_channel, by_token)
    ]
    assert errors[0] < 0.02 and errors[1] > 1


def test_scores_move_by_no_more_than_stated() -> None:
    """|q·k - q·k'| <= sum_d |q_d| scale_d / 2."""
    k, q = outlier_channel(), torch.randn(2, 4, 5, WIDTH)
    held = packed(k, -2)
    moved = (q @ (held.get(GROUPS, torch.float32) - k).mT).abs()
    steps = held.scale.float().expand(SHAPE).flatten(2, 3)
    bound = q.abs() @ steps.mT / 2
    rounding = 2**-20 * (q.abs() @ k.abs().mT)
    assert (moved <= bound + rounding).all() and moved.max() > bound.max() / 50
