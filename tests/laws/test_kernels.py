"""Laws of attention kernels: all compute one formula, fully masked queries included."""

import itertools
import sys
import types
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from micro_transformer.config.components import find
from micro_transformer.config.kernel_rules import has_compiler
from micro_transformer.config.schema import read_choice
from micro_transformer.nn.kernels.auto import prefers_products
from micro_transformer.nn.kernels.flex import num_compiled
from micro_transformer.nn.masks import Mask
from micro_transformer.nn.posenc.base import PositionalEncoding
from micro_transformer.nn.visibility import (
    CAUSAL,
    EVERYTHING,
    Padded,
    Selective,
    Visibility,
    Window,
    all_of,
)
from tests.conftest import build, members, tiny_dims, trainable_kernels

KERNELS = members("attention")
B, H, T, D = 2, 3, 9, 4
PADS = torch.tensor([3, 0])
PADDED = torch.arange(T) - PADS[:, None]
POSITIONS = PADDED.masked_fill(PADDED < 0, -1)  # (B, T), left padding
BLOCKED = torch.zeros(B, T, dtype=torch.bool)
BLOCKED[:, [0, 4]] = True


class Thirds(Visibility):
    """Every third query sees no key."""

    def visible(self, b: Tensor, h: Tensor, q_pos: Tensor, k_pos: Tensor) -> Tensor:
        return q_pos % 3 > 0


class Heads(Visibility):
    """Head h sees h keys more than the first."""

    def visible(self, b: Tensor, h: Tensor, q_pos: Tensor, k_pos: Tensor) -> Tensor:
        return q_pos - k_pos <= h


class Table(PositionalEncoding):
    """A bias read from a table (..., H, T, T)."""

    adds_bias = True

    def __init__(self, *shape: int):
        nn.Module.__init__(self)
        self.table = torch.randn(*shape, T, T, dtype=torch.float64)

    def bias(self, q_pos: Tensor, k_pos: Tensor) -> Tensor:
        if q_pos.ndim == 1:
            return self.table[..., q_pos[:, None], k_pos]
        tables = self.table.expand(B, H, T, T)
        rows = zip(tables, q_pos, k_pos, strict=True)
        return torch.stack([table[:, q[:, None], k] for table, q, k in rows])


ROW = torch.arange(T)
MASKS = {
    "causal": lambda **o: Mask(CAUSAL, ROW, ROW, (range(T), range(T)), **o),
    "chunk": lambda **o: Mask(CAUSAL, ROW[4:], ROW, (range(4, T), range(T)), **o),
    "step": lambda **o: Mask(CAUSAL, ROW[-1:], ROW, (range(T - 1, T), range(T)), **o),
    "window": lambda **o: Mask(all_of(CAUSAL, Window(3)), ROW, ROW, (range(T), range(T)), **o),
    "padding": lambda **o: Mask(Padded(CAUSAL), POSITIONS, POSITIONS, **o),
    "padded window": lambda **o: Mask(
        Padded(all_of(CAUSAL, Window(3))), POSITIONS, POSITIONS, (range(T), range(T)), **o
    ),
    "bidirectional": lambda **o: Mask(Padded(EVERYTHING), POSITIONS, POSITIONS, **o),
    "selective": lambda **o: Mask(all_of(CAUSAL, Selective(BLOCKED)), ROW, ROW, batch=B, **o),
    "per head": lambda **o: Mask(all_of(CAUSAL, Heads()), ROW, ROW, num_heads=H, **o),
    "dead rows": lambda **o: Mask(all_of(CAUSAL, Thirds()), ROW, ROW, (range(T), range(T)), **o),
}


@pytest.fixture(params=[2, 128], autouse=True)
def _slices(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every law with slices of two queries as with one slice."""
    monkeypatch.setattr("micro_transformer.nn.masks.SLICE", request.param)


def by_loops(q: Tensor, k: Tensor, v: Tensor, mask: Mask, scale: float) -> Tensor:
    """Reference: the formula for one query at a time, over its visible keys."""
    allowed = mask.dense().expand(B, H, q.shape[2], k.shape[2])
    rows = []
    for b, h, i in itertools.product(*map(range, q.shape[:3])):
        keys = allowed[b, h, i]
        scores = k[b, h, keys] @ q[b, h, i] * scale
        if mask.bias is not None:
            scores = scores + mask.bias.expand(B, H, -1, -1)[b, h, i, keys]
        rows.append(scores.softmax(0) @ v[b, h, keys])
    return torch.stack(rows).view_as(q)


def inputs(mask: Mask) -> tuple[Tensor, Tensor, Tensor]:
    q = torch.randn(B, H, mask.q_pos.shape[-1], D, dtype=torch.float64)
    k, v = torch.randn(2, B, H, T, D, dtype=torch.float64)
    return q, k, v


@pytest.mark.parametrize("biased", [None, (H,), (B, H)])
@pytest.mark.parametrize("mask_name", MASKS)
@pytest.mark.parametrize("kernel", KERNELS)
def test_kernels_agree_with_the_formula(
    kernel: str, mask_name: str, biased: tuple[int, ...] | None
) -> None:
    mask = MASKS[mask_name](posenc=Table(*biased) if biased else None)
    attend = build("attention", kernel)
    q, k, v = inputs(mask)
    expected = by_loops(q, k, v, mask, 0.3)
    for dtype, tolerance in ((torch.float64, 1e-10), (torch.float32, 2e-6), (torch.bfloat16, 0.03)):
        out = attend(q.to(dtype), k.to(dtype), v.to(dtype), mask, 0.3)
        assert out.dtype == dtype
        torch.testing.assert_close(out.double(), expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("mask_name", MASKS)
@pytest.mark.parametrize("kernel", trainable_kernels())
def test_gradients_agree_and_are_finite(kernel: str, mask_name: str, biased: bool) -> None:
    """Fully masked queries once made the gradients of all keys NaN."""
    mask = MASKS[mask_name](posenc=Table(H) if biased else None)
    attend = build("attention", kernel)
    tensors = [x.requires_grad_() for x in inputs(mask)]
    direction = torch.randn_like(tensors[0])

    def gradients(out: Tensor) -> tuple[Tensor, ...]:
        return torch.autograd.grad((out * direction).sum(), tensors)

    ours = gradients(attend(*tensors, mask, 0.3))
    for gradient, expected in zip(ours, gradients(by_loops(*tensors, mask, 0.3)), strict=True):
        assert gradient.isfinite().all()
        torch.testing.assert_close(gradient, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_query_that_sees_nothing_gets_exactly_zero(kernel: str) -> None:
    mask = MASKS["dead rows"]()
    out = build("attention", kernel)(*inputs(mask), mask, 0.3)
    assert (out[:, :, ::3] == 0).all()
    assert (out[:, :, 1::3] != 0).all()


@pytest.mark.parametrize("mask_name", MASKS)
def test_manual_shows_weights_that_are_zero_where_hidden(mask_name: str) -> None:
    """Weights of future keys are exactly 0, not just small."""
    mask, attend, seen = MASKS[mask_name](), build("attention", "manual"), []
    attend.weights.register_forward_hook(lambda module, args, out: seen.append(out))
    attend(*inputs(mask), mask, 0.3)
    allowed = mask.dense().expand_as(seen[0])
    assert (seen[0][~allowed] == 0).all()
    sums = seen[0].sum(-1)
    torch.testing.assert_close(sums, allowed.any(-1).to(sums.dtype))


@pytest.mark.parametrize("kernel", ["manual", "sdpa"])
def test_dropout_acts_on_weights_in_training_only(kernel: str) -> None:
    mask = MASKS["causal"]()
    tensors = inputs(mask)
    attend = find("attention", read_choice("attention", kernel)["kind"]).load()(dropout=0.5)
    whole = build("attention", kernel)(*tensors, mask, 0.3)
    assert torch.equal(attend.eval()(*tensors, mask, 0.3), whole)
    draws = torch.stack([attend.train()(*tensors, mask, 0.3) for _ in range(1500)])
    assert not torch.equal(draws[0], draws[1])
    torch.testing.assert_close(draws.mean(0), whole, rtol=0, atol=0.25)


CHOSEN = [  # queries, keys, mask, then by dtype: fp32, bf16 in hardware, bf16 emulated
    (64, 64, "pure", "batched", "batched", "sdpa"),
    (65, 65, "pure", "sdpa", "batched", "sdpa"),
    (512, 512, "pure", "sdpa", "batched", "sdpa"),
    (600, 600, "pure", "sdpa", "sdpa", "sdpa"),
    (128, 128, "bias", "batched", "batched", "sdpa"),
    (600, 600, "bias", "sdpa", "batched", "sdpa"),
    (2100, 2100, "window", "batched", "batched", "sdpa"),  # in slices of 128 queries
    (1, 600, "pure", "sdpa", "batched", "sdpa"),
    (1, 100, "pure", "sdpa", "sdpa", "sdpa"),
    (1, 600, "bias", "batched", "batched", "sdpa"),
]


@pytest.mark.parametrize("which", range(3), ids=["fp32", "bf16", "bf16 emulated"])
@pytest.mark.parametrize("case", CHOSEN, ids=lambda case: " ".join(map(str, case[:3])))
def test_auto_chooses_by_its_rule(
    case: tuple[Any, ...], which: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("micro_transformer.instruction_sets.have_bf16", lambda: which == 1)
    monkeypatch.setattr("micro_transformer.nn.masks.SLICE", 128)
    num_q, num_k, kind, *names = case
    pos = torch.arange(num_k)
    mask = Mask(
        all_of(CAUSAL, Window(64)) if kind == "window" else CAUSAL,
        pos[-num_q:],
        pos,
        (range(num_k - num_q, num_k), range(num_k)),
        num_heads=4,
        posenc=build("posenc", "alibi", tiny_dims()) if kind == "bias" else None,
    )
    k, v = torch.randn(2, 1, 4, num_k, 4, dtype=torch.bfloat16 if which else torch.float32)
    q = torch.randn(1, 4, num_q, 4).to(k.dtype)
    expected = build("attention", names[which])(q, k, v, mask, 0.5)
    auto = build("attention", "auto")
    bound = 0.03 if which else 1e-5
    torch.testing.assert_close(auto(q, k, v, mask, 0.5), expected, rtol=0, atol=bound)
    assert ("batched" in auto.ran) == (names[which] == "batched")


def test_auto_keeps_no_scores_that_would_fill_the_memory() -> None:
    mask = Mask.between(CAUSAL, range(512), range(512))
    for rows, expected in ((16, True), (64, False)):
        q = torch.empty(rows, 8, 512, 64, dtype=torch.bfloat16)
        assert prefers_products(q, q, mask, True) == expected


def test_sdpa_forms_no_square_of_the_length() -> None:
    """A causal mask and a single new query need no mask tensor."""
    for mask in (MASKS["causal"](), MASKS["step"]()):
        build("attention", "sdpa")(*inputs(mask), mask, 0.3)
        assert mask._dense is None


@pytest.mark.slow
@pytest.mark.skipif(not has_compiler(), reason="no C++ compiler")
@pytest.mark.parametrize(
    "case",
    ["causal", "biased window", "padded"],
)
@torch.inference_mode()
def test_compiled_flex_agrees_and_compiles_once_per_shape(case: str) -> None:
    """Texts of 300 and of 310 tokens are of one shape, as both are padded to 384."""
    attend = find("attention", "Flex").load()(compiled=True)
    compiled = []
    for length in (300, 310):
        pos, sides = torch.arange(length), (range(length), range(length))
        if case == "padded":
            pos = torch.stack((pos - 7, pos)).clamp(min=-1)
            mask = Mask(Padded(CAUSAL), pos, pos, batch=2)
        elif case == "biased window":
            alibi = build("posenc", "alibi", tiny_dims())
            visibility = all_of(CAUSAL, Window(64))
            mask = Mask(visibility, pos, pos, sides, num_heads=4, posenc=alibi)
        else:
            mask = Mask(CAUSAL, pos, pos, sides)
        q, k, v = torch.randn(3, 2, 4, length, 16)
        expected = build("attention", "manual")(q, k, v, mask, 0.25)
        torch.testing.assert_close(attend(q, k, v, mask, 0.25), expected, rtol=0, atol=2e-6)
        compiled.append(num_compiled())
    assert compiled[0] == compiled[1] > 0


def test_flex_says_that_it_has_no_gradient_on_a_cpu() -> None:
    mask = MASKS["causal"]()
    q, k, v = (x.requires_grad_() for x in inputs(mask))
    with pytest.raises(ValueError, match="no backward pass on a CPU; use attention=sdpa"):
        build("attention", "flex")(q, k, v, mask, 0.3).sum().backward()


def test_flex_refuses_more_shapes_than_it_compiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch alone would run them unfused, without a word."""

    def limit(*args: object, **options: object) -> Tensor:
        raise torch._dynamo.exc.FailOnRecompileLimitHit("reached")

    monkeypatch.setattr("micro_transformer.nn.kernels.flex._COMPILED", limit)
    mask, attend = MASKS["causal"](), find("attention", "Flex").load()(compiled=True)
    with pytest.raises(RuntimeError, match="more than 64 shapes; use attention=sdpa"):
        attend(*inputs(mask), mask, 0.3)


@pytest.mark.parametrize("causal", [True, False])
def test_flash_calls_its_package_as_the_package_asks(
    causal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in for the package, in its layout (B, T, H, d)."""

    def flash_attn_func(
        q: Tensor, k: Tensor, v: Tensor, *, dropout_p: float, softmax_scale: float, causal: bool
    ) -> Tensor:
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))  # (B, H, T, d)
        scores = q @ k.mT * softmax_scale
        rows, columns = (torch.arange(n) for n in scores.shape[-2:])
        hidden = columns > rows[:, None] + len(columns) - len(rows)  # bottom right
        weights = scores.masked_fill(hidden & causal, float("-inf")).softmax(-1)
        return (weights @ v).transpose(1, 2)  # (B, T, H, d)

    package = types.ModuleType("flash_attn")
    package.flash_attn_func = flash_attn_func
    monkeypatch.setitem(sys.modules, "flash_attn", package)
    monkeypatch.setattr("micro_transformer.nn.kernels.flash.takes", lambda q: True)
    mask = MASKS["causal" if causal else "step"]()
    tensors, attend = inputs(mask), build("attention", "flash")
    torch.testing.assert_close(attend(*tensors, mask, 0.3), by_loops(*tensors, mask, 0.3))
    assert attend.ran == {"flash_attn"}


def test_kernels_say_what_ran() -> None:
    mask = Mask.between(CAUSAL, range(80), range(80))
    q, k, v = torch.randn(3, 1, 2, 80, 4)
    attend = build("attention", "auto")
    attend(q, k, v, mask, 0.3)
    assert attend.ran == {"sdpa flash"}
    attend(q[:, :, :50], k[:, :, :50], v[:, :, :50], Mask.between(CAUSAL, range(50), range(50)), 1)
    assert attend.ran == {"sdpa flash", "batched"}
