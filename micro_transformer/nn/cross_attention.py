"""Multi-head cross-attention: a decoder reads the output of an encoder."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from micro_transformer.nn.cache.base import Segment
from micro_transformer.nn.dims import Dims
from micro_transformer.nn.grouped_heads import repeated
from micro_transformer.nn.kernels.base import Kernel, attend
from micro_transformer.nn.linear import Linear
from micro_transformer.nn.norms import make_norm
from micro_transformer.nn.source_memory import Memory, SourceContext
from micro_transformer.nn.sublayer import SubLayer

# B batch, N sources, w rows per source, H query heads, G heads of keys and values, T tokens of the
# target, S tokens of the source, d head_dim, D = H·d model width


class CrossAttention(SubLayer):
    """Multi-head cross-attention (Vaswani et al., 2017, 3.2.3): queries of the target, keys and
    values of the source, which are computed once by `keys_and_values`.

    Positions play no part: neither rotation nor bias. Heads are normalised and shared, and pass
    through the identity modules `q`, `k` and `v`, as in self-attention.
    """

    def __init__(self, dims: Dims, make_kernel: Callable[[], Kernel]):
        super().__init__()
        self.num_heads, self.kv_heads, self.head_dim = dims.num_heads, dims.kv_heads, dims.head_dim
        self.scale = 1 / math.sqrt(dims.head_dim)
        self.q_proj = Linear(dims.d_model, dims.d_model, bias=dims.bias)
        self.kv_proj = Linear(dims.d_model, 2 * dims.kv_heads * dims.head_dim, bias=dims.bias)
        self.qk_norm = make_norm(dims, dims.head_dim) if dims.qk_norm else nn.Identity()
        self.q, self.k, self.v = nn.Identity(), nn.Identity(), nn.Identity()
        self.kernel = make_kernel()
        self.out = Linear(dims.d_model, dims.d_model, bias=dims.bias)

    def keys_and_values(self, encoded: Tensor) -> tuple[Tensor, Tensor]:
        """(B, S, D), the normalised output of the encoder -> k and v (B, G, S, d)."""
        # (B, S, 2G, d), then (B, 2G, S, d)
        heads = self.kv_proj(encoded).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
        k, v = heads.split(self.kv_heads, 1)  # (B, G, S, d) each
        # Read at every token that is written, so they are copied into the order of reading once.
        return self.k(self.qk_norm(k)).contiguous(), self.v(v).contiguous()

    def forward(self, x: Tensor, context: SourceContext, index: int) -> Tensor:
        """(B, T, D) -> (B, T, D); keys and values: layer `index` of context.memory."""
        memory = context.memory
        # (B, T, H, d), then (B, H, T, d)
        heads = self.q_proj(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
        q = memory.gather(self.q(self.qk_norm(heads)))
        masks = memory.masks(q.shape[2], self.num_heads)
        segments = [Segment(0, *memory.layer(index))]
        out = attend(self.kernel, lambda view: q, segments, masks, self.scale, self.kv_heads)
        # (B, T, H, d), then (B, T, D)
        return self.out(memory.spread(out).transpose(1, 2).flatten(2))

    def weights(self, q: Tensor, memory: Memory, index: int) -> Tensor:
        """Attention weights (B, H, T, S) of queries (B, H, T, d) as they passed through `q`.

        By hand, whatever the kernel; 0 at pads, and everywhere in a source of pads alone.
        """
        k, _ = memory.layer(index)
        wide = torch.promote_types(q.dtype, torch.float32)
        # (N, H, w·T, S)
        scores = (memory.gather(q) @ repeated(k, self.num_heads).mT).to(wide) * self.scale
        pads = ~memory.real()[:, None, None]  # (N, 1, 1, S)
        lowest = torch.finfo(wide).min
        weights = scores.masked_fill(pads, lowest).softmax(-1).masked_fill(pads, 0.0)
        return memory.spread(weights)

    def projections(self) -> dict[str, tuple[str, range]]:
        width = self.kv_heads * self.head_dim
        return {
            "q": ("q_proj", range(self.q_proj.out_features)),
            "k": ("kv_proj", range(width)),
            "v": ("kv_proj", range(width, 2 * width)),
            "out": ("out", range(self.out.out_features)),
        }

    def residual_outputs(self) -> list[Tensor]:
        return [self.out.weight]
