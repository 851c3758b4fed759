"""Multi-head self-attention."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from micro_transformer.nn.cache.base import AS_IS, QueryView, Segment
from micro_transformer.nn.context import Context
from micro_transformer.nn.dims import Dims
from micro_transformer.nn.kernels.base import Kernel, attend
from micro_transformer.nn.linear import Linear
from micro_transformer.nn.norms import make_norm
from micro_transformer.nn.sublayer import SubLayer

# B batch, H query heads, G heads of keys and values, T tokens (Tq queries), d head_dim,
# D = H·d model width


class SelfAttention(SubLayer):
    """Multi-head self-attention (Vaswani et al., 2017, 3.2.2), q, k and v by one fused projection.

    Queries, keys and values (B, H, T, d) pass through the identity modules `q`, `k`, `v` (for
    forward hooks) after normalisation and rotation. With qk_norm the q and k of each head are
    normalised (Henry et al., 2020) by one shared module, since a score depends on the product of
    two gains only. With key_shift the first half of the key heads use the key of the previous
    token: a built-in previous-token head, without which recall is learned late or never. With fewer
    heads of keys and values, G, each serves H / G query heads in a row (Ainslie et al., 2023; for
    G = 1 Shazeer, 2019).
    """

    def __init__(self, dims: Dims, make_kernel: Callable[[], Kernel]):
        super().__init__()
        self.num_heads, self.kv_heads, self.head_dim = dims.num_heads, dims.kv_heads, dims.head_dim
        self.shifted_heads = dims.kv_heads // 2 if dims.key_shift else 0
        width = (dims.num_heads + 2 * dims.kv_heads) * dims.head_dim
        self.qkv = Linear(dims.d_model, width, bias=dims.bias)
        self.qk_norm = make_norm(dims, dims.head_dim) if dims.qk_norm else nn.Identity()
        self.q, self.k, self.v = nn.Identity(), nn.Identity(), nn.Identity()
        self.kernel = make_kernel()
        self.out = Linear(dims.d_model, dims.d_model, bias=dims.bias)

    def forward(self, x: Tensor, context: Context, index: int) -> Tensor:
        """(B, Tq, D) -> (B, Tq, D); past keys and values: layer `index` of context.cache."""
        batch, num_q, _ = x.shape
        num_heads = self.num_heads + 2 * self.kv_heads
        # (B, Tq, H+2G, d), then (B, H+2G, Tq, d)
        heads = self.qkv(x).view(batch, num_q, num_heads, self.head_dim).transpose(1, 2)
        # (B, H+G, Tq, d) and (B, G, Tq, d)
        qk, v = heads.split((self.num_heads + self.kv_heads, self.kv_heads), 1)
        qk = self.qk_norm(qk)
        if self.shifted_heads:
            qk = self._shifted(qk, context, index)
        sizes = (self.num_heads, self.kv_heads)
        q, k = context.rotate(qk).split(sizes, 1)  # (B, H, Tq, d) and (B, G, Tq, d)
        q, k, v = self.q(q), self.k(k), self.v(v)
        scale = context.score_scale / math.sqrt(self.head_dim)
        segments: Sequence[Segment] = [Segment(0, k, v)]
        if context.cache is not None:
            layer = context.cache.layer(index)
            layer.append(k, v, context.pos)
            segments = layer.segments(context.masks.wanted)

        def queries(view: QueryView) -> Tensor:
            return q if view is AS_IS else context.rotate(qk[:, : self.num_heads], view)

        out = attend(self.kernel, queries, segments, context.masks, scale, self.kv_heads)
        return self.out(out.transpose(1, 2).flatten(2))  # (B, Tq, H, d), then (B, Tq, D)

    def _shifted(self, qk: Tensor, context: Context, index: int) -> Tensor:
        """(B, H+G, T, d) -> same: keys of the shifted heads move on by one token, the first is 0.

        The last key of a call is kept in context.cache for the next one.
        """
        sizes = (self.num_heads, self.shifted_heads, self.kv_heads - self.shifted_heads)
        q, moving, staying = qk.split(sizes, 1)  # (B, H, T, d) and (B, part of G, T, d) each
        before = torch.zeros_like(moving[:, :, :1])
        if context.cache is not None and context.cache.stores:
            before = context.cache.previous.get(index, before)
            context.cache.previous[index] = moving[:, :, -1:]
        moved = torch.cat((before, moving[:, :, :-1]), 2)
        if context.pos.ndim == 2:  # the first token may follow a pad
            moved = moved * (context.pos > 0)[:, None, :, None]
        return torch.cat((q, moved, staying), 1)

    def projections(self) -> dict[str, tuple[str, range]]:
        ends = [self.num_heads, self.num_heads + self.kv_heads, self.num_heads + 2 * self.kv_heads]
        q, k, v = (end * self.head_dim for end in ends)
        return {
            "q": ("qkv", range(q)),
            "k": ("qkv", range(q, k)),
            "v": ("qkv", range(k, v)),
            "out": ("out", range(self.out.out_features)),
        }

    def residual_outputs(self) -> list[Tensor]:
        return [self.out.weight]
