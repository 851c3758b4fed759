"""Attention by torch's flex_attention: blocks that are fully masked are skipped."""

import warnings
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from micro_transformer.nn.kernels.base import Kernel, without_dead
from micro_transformer.nn.masks import Mask
from micro_transformer.wording import _

with warnings.catch_warnings():  # torch imports what it deprecated itself
    warnings.simplefilter("ignore")
    from torch.nn.attention import flex_attention as flex
    from torch.nn.attention.flex_attention import BlockMask, flex_attention

    _COMPILED: Callable[..., Tensor] = torch.compile(flex_attention, dynamic=False)

# B batch, H heads, Tq queries, Tk keys, n blocks of BLOCK queries or keys, d head_dim

BLOCK = 128  # flex's own
MOST = 64  # shapes compiled per process; past torch's own limit, 8, it would run unfused, unsaid


class Flex(Kernel):
    """torch.nn.attention.flex_attention (Dong et al., 2024), compiled once per shape.

    Queries and keys are padded to multiples of 128, so that a growing text has few shapes. The mask
    becomes lists of blocks that are visible in part or as a whole, and a table of booleans that is
    read in the former. On a CPU there is no backward pass: it measures nets that were trained with
    another kernel. compiled=false runs it unfused, for tests: all scores are computed.
    """

    trains_on_cpu = False

    def __init__(self, *, compiled: bool):
        super().__init__()
        self.compiled = compiled

    def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Mask, scale: float) -> Tensor:
        if not q.numel():  # flex takes no empty batch
            return torch.zeros_like(q)
        run = _fused if self.compiled else _unfused
        num_q = q.shape[2]
        size = (*q.shape[:3], k.shape[2])
        options = _options(mask, size, q.dtype) | {"scale": scale}
        q, k, v = (_padded(x, -2) for x in (q, k, v))  # (B, H, n·BLOCK, d)
        if q.is_cuda:
            out = run(q, k, v, **options)
        else:
            out = ForwardOnly.apply(lambda *x: run(*x, **options), q, k, v)
        return without_dead(out[:, :, :num_q], mask)


class ForwardOnly(torch.autograd.Function):
    """run(q, k, v), of which there is no gradient."""

    @staticmethod
    def forward(ctx: Any, run: Callable[..., Tensor], *qkv: Tensor) -> Tensor:
        return run(*(x.detach() for x in qkv))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, ...]:
        raise ValueError(_("attention=flex: has no backward pass on a CPU; use attention=sdpa"))


def _options(mask: Mask, size: tuple[int, ...], dtype: torch.dtype) -> dict[str, Any]:
    """The mask and the bias as flex takes them; size: (B, H, Tq, Tk)."""
    allowed = _padded(_padded(mask.dense().expand(size), -1), -2)
    options: dict[str, Any] = {"block_mask": _block_mask(allowed)}
    if mask.bias is not None:
        bias = mask.bias.to(torch.promote_types(dtype, torch.float32)).expand(size)
        options["score_mod"] = _adding(_padded(_padded(bias, -1), -2))
    return options


def num_compiled() -> int:
    """Graphs compiled so far in this process."""
    return torch._dynamo.utils.counters["stats"]["unique_graphs"]  # type: ignore[attr-defined]


def _fused(*args: Any, **kinds: Any) -> Tensor:
    limits: dict[str, Any] = {"recompile_limit": MOST, "fail_on_recompile_limit_hit": True}
    with warnings.catch_warnings(), torch._dynamo.config.patch(**limits):  # type: ignore[attr-defined]
        warnings.simplefilter("ignore")  # of torch's own imports
        try:
            return _COMPILED(*args, **kinds)
        except torch._dynamo.exc.FailOnRecompileLimitHit as error:
            said = _("attention=flex: more than {most} shapes; use attention=sdpa", most=MOST)
            raise RuntimeError(said) from error


def _unfused(*args: Any, **kinds: Any) -> Tensor:
    """Neither compiled nor traced."""
    flex._FLEX_ATTENTION_DISABLE_COMPILE_DEBUG = True
    try:
        return flex_attention(*args, **kinds)
    finally:
        flex._FLEX_ATTENTION_DISABLE_COMPILE_DEBUG = False


def _padded(x: Tensor, dim: int) -> Tensor:
    """Zeros, or False, to a multiple of BLOCK along dim, the last one or the one before."""
    rest = -x.shape[dim] % BLOCK
    return F.pad(x, (0, rest) if dim == -1 else (0, 0, 0, rest))


def _adding(bias: Tensor) -> Callable[..., Tensor]:
    """A score_mod that adds bias (B, H, Tq, Tk)."""
    return lambda score, b, h, i, j: score + bias[b, h, i, j]


def _block_mask(allowed: Tensor) -> BlockMask:
    """Of booleans (B, H, n·BLOCK, n·BLOCK)."""
    # (B, H, n, BLOCK, n, BLOCK)
    blocks = allowed.unflatten(-1, (-1, BLOCK)).unflatten(-3, (-1, BLOCK))
    some, every = blocks.any(-1).any(-2), blocks.all(-1).all(-2)  # (B, H, n, n)

    def mask_mod(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return allowed[b, h, i, j]

    return BlockMask.from_kv_blocks(
        *_listed(some & ~every),
        *_listed(every),
        BLOCK_SIZE=BLOCK,
        mask_mod=mask_mod,
        seq_lengths=(allowed.shape[-2], allowed.shape[-1]),
    )


def _listed(blocks: Tensor) -> tuple[Tensor, Tensor]:
    """Number of True blocks per row of (..., n, n), and their indices first, in order."""
    order = blocks.int().argsort(dim=-1, descending=True, stable=True)
    return blocks.sum(-1, dtype=torch.int32), order.int()
