"""Multi-head self-attention."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from micro_transformer.nn import segmented_attention
from micro_transformer.nn.cache.base import AS_IS, QueryView, Segment
from micro_transformer.nn.context import Context
from micro_transformer.nn.dims import Dims
from micro_transformer.nn.kernels.base import Kernel
from micro_transformer.nn.linear import Linear
from micro_transformer.nn.norms import make_norm

# B batch, H heads, T time (Tq, Tk), d head width, D = H·d model width


class SelfAttention(nn.Module):
    """Every head attends by its own projections; one product makes all of q, k and v.

    Queries, keys and values (B, H, T, d) pass through the identity modules `q`, `k`, `v`, as the
    scores see them: normalised and rotated. With qk_norm each head's q and k are normalised (Henry
    et al., 2020), by one norm, since only the product of two gains would act on a score. With
    key_shift the first half of the heads take the key of the token before: a hand-made
    previous-token head, without which recall is learned late or never.
    """

    def __init__(self, dims: Dims, make_kernel: Callable[[], Kernel]):
        super().__init__()
        self.num_heads, self.head_dim = dims.num_heads, dims.head_dim
        self.shifted_heads = dims.num_heads // 2 if dims.key_shift else 0
        self.qkv = Linear(dims.d_model, 3 * dims.d_model, bias=dims.bias)
        self.qk_norm = make_norm(dims, dims.head_dim) if dims.qk_norm else nn.Identity()
        self.q, self.k, self.v = nn.Identity(), nn.Identity(), nn.Identity()
        self.kernel = make_kernel()
        self.out = Linear(dims.d_model, dims.d_model, bias=dims.bias)

    def forward(self, x: Tensor, context: Context, index: int) -> Tensor:
        """(B, Tq, D) -> (B, Tq, D); the past comes from layer `index` of the context's cache."""
        batch, num_q, _ = x.shape
        qkv = self.qkv(x).view(batch, num_q, 3, self.num_heads, self.head_dim)
        qk, v = qkv.permute(2, 0, 3, 1, 4).split((2, 1))  # (2, B, H, Tq, d), (1, ...)
        qk = self.qk_norm(qk)
        if self.shifted_heads:
            qk = torch.stack((qk[0], self._shifted(qk[1], context, index)))
        q, k = context.rotate(qk).unbind()
        q, k, v = self.q(q), self.k(k), self.v(v.squeeze(0))
        scale = context.score_scale / math.sqrt(self.head_dim)
        segments = [Segment(0, k, v)]
        if context.cache is not None:
            layer = context.cache.layer(index)
            layer.append(k, v, context.pos)
            segments = list(layer.segments(context.first_visible))
        if len(segments) == 1 and segments[0].view is AS_IS:
            [whole] = segments
            span = context.span(whole.start, whole.stop)
            out = span.attend(self.kernel, q, whole.k, whole.v, scale)
        else:

            def queries(view: QueryView) -> Tensor:
                return q if view is AS_IS else context.rotate(qk[0], view)

            out = segmented_attention.attend(context, queries, segments, scale)
        return self.out(out.transpose(1, 2).flatten(2))

    def _shifted(self, k: Tensor, context: Context, index: int) -> Tensor:
        """(B, H, T, d) -> same: in the shifted heads each key is that of the token before, 0 for
        the first token of a row."""
        moving, staying = k[:, : self.shifted_heads], k[:, self.shifted_heads :]
        before = torch.zeros_like(moving[:, :, :1])
        if context.cache is not None and context.cache.stores:
            before = context.cache.previous.get(index, before)
            context.cache.previous[index] = moving[:, :, -1:]
        moved = torch.cat((before, moving[:, :, :-1]), 2)
        if context.pos.ndim == 2:  # a pad may stand before the first token
            moved = moved * (context.pos > 0)[:, None, :, None]
        return torch.cat((moved, staying), 1)

    def outputs(self) -> list[Tensor]:
        """The weights that write into the residual stream."""
        return [self.out.weight]
