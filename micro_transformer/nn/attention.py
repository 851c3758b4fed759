"""Multi-head self-attention."""

import math
from collections.abc import Callable

from torch import Tensor, nn

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
    et al., 2020), by one norm, since only the product of two gains would act on a score.
    """

    def __init__(self, dims: Dims, make_kernel: Callable[[], Kernel]):
        super().__init__()
        self.num_heads, self.head_dim = dims.num_heads, dims.head_dim
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
        q, k = context.rotate(self.qk_norm(qk)).unbind()
        q, k, v = self.q(q), self.k(k), self.v(v.squeeze(0))
        k_pos = context.pos
        if context.cache is not None:
            layer = context.cache.layer(index)
            layer.append(k, v, k_pos)
            [(k, v, k_pos)] = layer.segments()
        scale = context.posenc.score_scale / math.sqrt(self.head_dim)
        out = context.sight(k_pos).attend(self.kernel, q, k, v, scale)
        return self.out(out.transpose(1, 2).reshape(batch, num_q, -1))

    def outputs(self) -> list[Tensor]:
        """The weights that write into the residual stream."""
        return [self.out.weight]
