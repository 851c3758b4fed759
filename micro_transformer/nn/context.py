"""What the layers of one forward share: positions, mask, score bias, rotation, cache."""

from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

from torch import Tensor

from micro_transformer.nn.cache.base import Cache
from micro_transformer.nn.masks import Mask, MaskFn
from micro_transformer.nn.posenc.base import PositionalEncoding, Rotation

# Scores of a sequence (H · Tq · Tk). Up to WHOLE, mask and bias are formed once and kept for the
# other layers; beyond, they are formed for PART at a time and dropped: megabytes, not gigabytes.
WHOLE = 2**24
PART = 2**22


class Part(NamedTuple):
    """Some queries, the keys that they may see, and what lies between them."""

    rows: slice
    keys: slice
    mask: Mask
    bias: Tensor | None


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

    def parts(self) -> Iterator[Part]:
        """All queries at once, or by rows where mask or bias would be too large."""
        size = self.context.num_heads * self.num_q * self.num_k
        if size <= WHOLE or self._formless:
            yield self._whole
            return
        rows = max(1, PART // (self.context.num_heads * self.num_k))
        for start in range(0, self.num_q, rows):
            yield self._part(start, min(start + rows, self.num_q))

    @cached_property
    def _formless(self) -> bool:
        """A kernel can do without a mask and bias of T x T."""
        square = self.num_q in (1, self.num_k)
        return self.context.plain and square and not self.context.posenc.adds_bias

    @cached_property
    def _whole(self) -> Part:
        return self._part(0, self.num_q)

    def _part(self, start: int, stop: int) -> Part:
        context = self.context
        q_pos, k_pos, last = context.pos[..., start:stop], self.k_pos, self.num_k
        if context.plain:
            last -= self.num_q - stop  # later keys are in the future
            k_pos = k_pos[:last]
        mask = Mask(
            context.fn,
            q_pos,
            k_pos,
            batch=context.batch,
            num_heads=context.num_heads,
            plain=context.plain,
        )
        bias = context.posenc.bias(q_pos, k_pos)
        return Part(slice(start, stop), slice(0, last), mask, bias)
