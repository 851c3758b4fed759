"""What the layers of one forward share: positions, mask, score bias, rotation, cache."""

import torch
from torch import Tensor

from micro_transformer.nn.cache.base import Cache
from micro_transformer.nn.kernels.base import Kernel
from micro_transformer.nn.masks import Mask, MaskFn
from micro_transformer.nn.posenc.base import PositionalEncoding, Rotation

# Scores of a sequence (H · Tq · Tk). Up to WHOLE, mask and bias are formed once and kept for the
# other layers; beyond, they are formed for PART at a time and dropped: megabytes, not gigabytes.
WHOLE = 2**24
PART = 2**22


class Context:
    """Formed once a forward; what depends on positions alone is computed by the first layer.

    plain: the predicate is `causal` and positions count 0, 1, 2, ... with no pads.
    """

    def __init__(
        self,
        posenc: PositionalEncoding,
        fn: MaskFn,
        pos: Tensor,
        *,
        batch: int,
        num_heads: int,
        plain: bool,
        cache: Cache | None = None,
    ):
        self.posenc, self.fn, self.pos, self.cache = posenc, fn, pos, cache
        self.batch, self.num_heads, self.plain = batch, num_heads, plain
        self._rotation: Rotation | None = None
        self._sight: Sight | None = None

    def rotate(self, x: Tensor) -> Tensor:
        """(..., B, H, T, d) -> same, turned by the positions of this forward."""
        if self._rotation is None or self._rotation.cos.dtype != x.dtype:
            self._rotation = self.posenc.rotation(self.pos, x.dtype)
        return x if self._rotation is None else self._rotation.turn(x)

    def sight(self, k_pos: Tensor) -> "Sight":
        """What the queries of this forward see of the keys at k_pos."""
        if self._sight is None or self._sight.k_pos is not k_pos:
            self._sight = Sight(self, k_pos)
        return self._sight


class Sight:
    """Mask and bias between the queries of a forward and some keys."""

    def __init__(self, context: Context, k_pos: Tensor):
        self.context, self.k_pos = context, k_pos
        self.num_q, self.num_k = context.pos.shape[-1], k_pos.shape[-1]
        self._whole: tuple[Mask, Tensor | None] | None = None

    def attend(self, kernel: Kernel, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        """(B, H, Tq, d): all queries at once, or by rows where mask or bias would be too large."""
        size = self.context.num_heads * self.num_q * self.num_k
        if size <= WHOLE or self._formless:
            self._whole = self._whole or self._part(0, self.num_q)
            return kernel(q, k, v, *self._whole, scale)
        rows = max(1, PART // (self.context.num_heads * self.num_k))
        outs = []
        for start in range(0, self.num_q, rows):
            stop = min(start + rows, self.num_q)
            mask, bias = self._part(start, stop)
            keys = slice(0, mask.k_pos.shape[-1])
            outs.append(
                kernel(q[:, :, start:stop], k[:, :, keys], v[:, :, keys], mask, bias, scale)
            )
        return torch.cat(outs, 2)

    @property
    def _formless(self) -> bool:
        """A kernel can do without a mask and bias of T x T."""
        square = self.num_q in (1, self.num_k)
        return self.context.plain and square and not self.context.posenc.adds_bias

    def _part(self, start: int, stop: int) -> tuple[Mask, Tensor | None]:
        """Mask and bias of some queries and the keys they may see: no later ones where plain."""
        context = self.context
        q_pos, k_pos = context.pos[..., start:stop], self.k_pos
        if context.plain:
            k_pos = k_pos[: self.num_k - self.num_q + stop]
        mask = Mask(
            context.fn,
            q_pos,
            k_pos,
            batch=context.batch,
            num_heads=context.num_heads,
            plain=context.plain,
        )
        return mask, context.posenc.bias(q_pos, k_pos)
