"""Attention by torch's fused kernel: no T x T mask where it is causal or skips keys."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend

from micro_transformer.config.knobs import Rate
from micro_transformer.nn.kernels.base import Kernel, without_dead
from micro_transformer.nn.masks import JoinedMask, Mask
from micro_transformer.nn.visibility import ALL

# B batch, H heads, T tokens (Tq queries, Tk keys), n tokens of a slice, d head_dim

# Names by number: math, flash, efficient, cudnn, ...
BACKENDS = {
    int(backend.value): name.lower().removesuffix("_attention")
    for name, backend in SDPBackend.__members__.items()
}
EXACT = (torch.float32, torch.float64)  # dtypes that hold a position times a slope


class Sdpa(Kernel):
    """torch.nn.functional.scaled_dot_product_attention (Dao, 2023, on GPUs in half precision).

    is_causal aligns the triangle to the top left, so it is used for square masks only, and never
    together with a mask tensor. Other masks are formed for one slice of queries at a time, with the
    keys that it may see, where that skips keys (Beltagy et al., 2020, for windows) or memory asks
    for it. Fully masked rows are set to 0 here, as torch versions differ.
    """

    def __init__(self, *, dropout: Rate = 0.0):
        super().__init__()
        self.dropout = dropout
        self._noted: set[tuple[object, ...]] = set()

    def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Mask, scale: float) -> Tensor:
        if mask.posenc is None and (mask.coverage is ALL or mask.pure_causal):
            return self._fused(q, k, v, scale, is_causal=mask.pure_causal)
        channels = mask.bias_channels if q.dtype in EXACT else None
        if channels is not None:
            return self._with_channels(q * scale, k, v, *channels)
        slices = mask.slices()
        if len(slices) == 1:
            [(rows, [keys])] = slices
            return self._masked(q, k[:, :, keys], v[:, :, keys], mask.part(rows, keys), scale)
        seen = [keys for _, keys in slices]
        parts = zip(
            q.split([rows.stop - rows.start for rows, _ in slices], 2),  # (B, H, n, d) each
            Slices.apply(k, seen),
            Slices.apply(v, seen),
            [mask.over(*part) for part in slices],
            strict=True,
        )
        return torch.cat([self._masked(*part, scale) for part in parts], 2)

    def _with_channels(
        self, q: Tensor, k: Tensor, v: Tensor, queries: Tensor, keys: Tensor
    ) -> Tensor:
        """Causal attention with the bias as c channels of q and k (H, T, c), which come first: a
        bias of thousands is exact before q·k is added to it. q is scaled; v gets c zeros, since
        the kernel takes one width."""
        batch, width = len(q), queries.shape[-1]
        first = (x.to(q.dtype).expand(batch, -1, -1, -1) for x in (queries, keys))
        q, k = (torch.cat(pair, -1) for pair in zip(first, (q, k), strict=True))
        return self._fused(q, k, F.pad(v, (0, width)), 1.0, is_causal=True)[..., :-width]

    def _masked(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Mask | JoinedMask, scale: float
    ) -> Tensor:
        if mask.posenc is None and mask.coverage is ALL:
            return self._fused(q, k, v, scale)
        wide = torch.promote_types(q.dtype, torch.float32) if q.device.type == "cpu" else q.dtype
        added = mask.additive(wide)
        added = added.view((1,) * (4 - added.ndim) + added.shape)  # (1 or B, 1 or H, Tq, Tk)
        return without_dead(self._fused(q, k, v, scale, attn_mask=added), mask)

    def _fused(self, q: Tensor, k: Tensor, v: Tensor, scale: float, **mask: Any) -> Tensor:
        dropout = self.dropout if self.training else 0.0
        self._note(q, k, v, dropout_p=dropout, scale=scale, **mask)
        return F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, scale=scale, **mask)

    def _note(self, q: Tensor, k: Tensor, v: Tensor, **how: Any) -> None:
        """Which of torch's backends runs is noted, once per dtype, number of queries (one, or more)
        and kind of mask."""
        case = q.dtype, q.shape[2] == 1, "attn_mask" in how, how.get("is_causal", False)
        if case not in self._noted and not torch.compiler.is_compiling():
            self._noted.add(case)
            self.note(f"sdpa {BACKENDS[torch._fused_sdp_choice(q, k, v, **how)]}")


class Slices(torch.autograd.Function):
    """Slices of x (B, H, T, d) along T, each one or several side by side; they may overlap. The
    gradients are added in one pass.

    Autograd's own slices would fill a gradient of all T for each: quadratic in T.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, slices: list[list[slice]]) -> tuple[Tensor, ...]:
        ctx.slices, ctx.shape = slices, x.shape
        return tuple(
            x[:, :, parts[0]] if len(parts) == 1 else torch.cat([x[:, :, p] for p in parts], 2)
            for parts in slices
        )

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        total = gradients[0].new_zeros(ctx.shape)
        for parts, gradient in zip(ctx.slices, gradients, strict=True):
            sizes = [part.stop - part.start for part in parts]
            for part, share in zip(parts, gradient.split(sizes, 2), strict=True):  # (B, H, n, d)
                total[:, :, part] += share
        return total, None
