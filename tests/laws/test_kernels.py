"""Laws of attention kernels: all compute one formula, fully masked queries included."""

import itertools

import pytest
import torch
from torch import Tensor

from micro_transformer.config.components import find
from micro_transformer.config.schema import read_choice
from micro_transformer.nn.masks import Mask, MaskFn, all_of, causal, padding, selective
from tests.conftest import build, members

KERNELS = members("attention")
B, H, T, D = 2, 3, 9, 4
PADS = torch.tensor([3, 0])
PADDED = torch.arange(T) - PADS[:, None]
POSITIONS = PADDED.masked_fill(PADDED < 0, -1)  # (B, T), left padding
BLOCKED = torch.zeros(B, T, dtype=torch.bool)
BLOCKED[:, [0, 4]] = True
NOBODY: MaskFn = lambda b, h, q_pos, k_pos: (k_pos <= q_pos) & (q_pos % 3 > 0)  # noqa: E731

MASKS = {
    "causal": lambda: Mask(causal, torch.arange(T), torch.arange(T), q_offset=0),
    "chunk": lambda: Mask(causal, torch.arange(4, T), torch.arange(T), q_offset=4),
    "step": lambda: Mask(causal, torch.arange(T - 1, T), torch.arange(T), q_offset=T - 1),
    "padding": lambda: Mask(all_of(causal, padding), POSITIONS, POSITIONS),
    "bidirectional": lambda: Mask(padding, POSITIONS, POSITIONS),
    "selective": lambda: Mask(
        all_of(causal, selective(BLOCKED)), torch.arange(T), torch.arange(T), batch=B
    ),
    "per head": lambda: Mask(
        lambda b, h, q_pos, k_pos: (k_pos <= q_pos) & (q_pos - k_pos <= h),
        torch.arange(T),
        torch.arange(T),
        num_heads=H,
    ),
    "dead rows": lambda: Mask(NOBODY, torch.arange(T), torch.arange(T)),
}


def by_loops(
    q: Tensor, k: Tensor, v: Tensor, mask: Mask, bias: Tensor | None, scale: float
) -> Tensor:
    """Reference: the formula for one query at a time, over its visible keys."""
    allowed = mask.dense().expand(B, H, q.shape[2], k.shape[2])
    rows = []
    for b, h, i in itertools.product(*map(range, q.shape[:3])):
        keys = allowed[b, h, i]
        scores = k[b, h, keys] @ q[b, h, i] * scale
        if bias is not None:
            scores = scores + bias.expand(B, H, -1, -1)[b, h, i, keys]
        rows.append(scores.softmax(0) @ v[b, h, keys])
    return torch.stack(rows).view_as(q)


def inputs(mask: Mask) -> tuple[Tensor, Tensor, Tensor]:
    q = torch.randn(B, H, mask.q_pos.shape[-1], D, dtype=torch.float64)
    k, v = torch.randn(2, B, H, T, D, dtype=torch.float64)
    return q, k, v


@pytest.mark.parametrize("biased", [None, (H, 1), (B, H)])
@pytest.mark.parametrize("mask_name", MASKS)
@pytest.mark.parametrize("kernel", KERNELS)
def test_kernels_agree_with_the_formula(
    kernel: str, mask_name: str, biased: tuple[int, int] | None
) -> None:
    mask, attend = MASKS[mask_name](), build("attention", kernel)
    q, k, v = inputs(mask)
    bias = None
    if biased:
        bias = torch.randn(B, H, q.shape[2], T, dtype=torch.float64)
        bias = bias[0] if biased == (H, 1) else bias
    expected = by_loops(q, k, v, mask, bias, 0.3)
    for dtype, tolerance in ((torch.float64, 1e-10), (torch.float32, 2e-6), (torch.bfloat16, 0.03)):
        narrow = None if bias is None else bias.to(torch.promote_types(dtype, torch.float32))
        out = attend(q.to(dtype), k.to(dtype), v.to(dtype), mask, narrow, 0.3)
        assert out.dtype == dtype
        torch.testing.assert_close(out.double(), expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("mask_name", MASKS)
@pytest.mark.parametrize("kernel", KERNELS)
def test_gradients_agree_and_are_finite(kernel: str, mask_name: str, biased: bool) -> None:
    """Fully masked queries once made the gradients of all keys NaN."""
    mask, attend = MASKS[mask_name](), build("attention", kernel)
    tensors = [x.requires_grad_() for x in inputs(mask)]
    bias = torch.randn(H, tensors[0].shape[2], T, dtype=torch.float64) if biased else None
    direction = torch.randn_like(tensors[0])

    def gradients(out: Tensor) -> tuple[Tensor, ...]:
        return torch.autograd.grad((out * direction).sum(), tensors)

    ours = gradients(attend(*tensors, mask, bias, 0.3))
    for gradient, expected in zip(
        ours, gradients(by_loops(*tensors, mask, bias, 0.3)), strict=True
    ):
        assert gradient.isfinite().all()
        torch.testing.assert_close(gradient, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_query_that_sees_nothing_gets_exactly_zero(kernel: str) -> None:
    mask = MASKS["dead rows"]()
    out = build("attention", kernel)(*inputs(mask), mask, None, 0.3)
    assert (out[:, :, ::3] == 0).all()
    assert (out[:, :, 1::3] != 0).all()


@pytest.mark.parametrize("mask_name", MASKS)
def test_manual_shows_weights_that_are_zero_where_hidden(mask_name: str) -> None:
    """Weights of future keys are exactly 0, not just small."""
    mask, attend, seen = MASKS[mask_name](), build("attention", "manual"), []
    attend.weights.register_forward_hook(lambda module, args, out: seen.append(out))
    attend(*inputs(mask), mask, None, 0.3)
    allowed = mask.dense().expand_as(seen[0])
    assert (seen[0][~allowed] == 0).all()
    sums = seen[0].sum(-1)
    torch.testing.assert_close(sums, allowed.any(-1).to(sums.dtype))


@pytest.mark.parametrize("kernel", ["manual", "sdpa"])
def test_dropout_acts_on_weights_in_training_only(kernel: str) -> None:
    mask = MASKS["causal"]()
    tensors = inputs(mask)
    attend = find("attention", read_choice("attention", kernel)["kind"]).load()(dropout=0.5)
    whole = build("attention", kernel)(*tensors, mask, None, 0.3)
    assert torch.equal(attend.eval()(*tensors, mask, None, 0.3), whole)
    draws = torch.stack([attend.train()(*tensors, mask, None, 0.3) for _ in range(1500)])
    assert not torch.equal(draws[0], draws[1])
    torch.testing.assert_close(draws.mean(0), whole, rtol=0, atol=0.25)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("length", [8, 600])
def test_auto_is_one_of_the_others(dtype: torch.dtype, length: int) -> None:
    mask = Mask(causal, torch.arange(length), torch.arange(length), q_offset=0)
    q, k, v = torch.randn(3, 1, 2, length, 4, dtype=dtype)
    name = "batched" if dtype == torch.bfloat16 and length <= 512 else "sdpa"
    expected = build("attention", name)(q, k, v, mask, None, 0.5)
    assert torch.equal(build("attention", "auto")(q, k, v, mask, None, 0.5), expected)


def test_sdpa_forms_no_square_of_the_length() -> None:
    """A causal mask and a single new query need no mask tensor."""
    for mask in (MASKS["causal"](), MASKS["step"]()):
        build("attention", "sdpa")(*inputs(mask), mask, None, 0.3)
        assert mask._dense is None
