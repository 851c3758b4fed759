"""What the layers of one forward share: positions, masks, score bias, rotation, cache."""

import torch
from torch import Tensor

from micro_transformer.nn.cache.base import AS_IS, Cache, QueryView
from micro_transformer.nn.kernels.base import Kernel
from micro_transformer.nn.masks import Mask, MaskFn, all_of
from micro_transformer.nn.posenc.base import PositionalEncoding, Rotation

# Scores of a sequence (H · Tq · Tk). Up to WHOLE, mask and bias are formed once and kept for the
# other layers; beyond, they are formed for PART at a time and dropped: megabytes, not gigabytes.
WHOLE = 2**24
PART = 2**22


class Context:
    """Formed once a forward; what depends on positions alone is computed by the first layer.

    Columns number the tokens of a row from the first that a cache was given, pads included. plain:
    the predicate is `causal` and positions are columns, with no pads. reach: how many columns back
    a query can see anything, itself included; None: all. length: tokens that the text will have,
    as planned for the cache, or this forward's.
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
        reach: int | None = None,
        cache: Cache | None = None,
    ):
        self.posenc, self.fn, self.pos, self.cache = posenc, fn, pos, cache
        self.batch, self.num_heads, self.plain = batch, num_heads, plain
        self.length = pos.shape[-1] if cache is None else cache.planned_len
        self.score_scale = posenc.score_scale(self.length)
        self.k_pos = pos if cache is None else cache.k_pos(pos)
        self.first = self.k_pos.shape[-1] - pos.shape[-1]  # column of the first query
        self.first_visible = 0 if reach is None else max(0, self.first + 1 - reach)
        self._rotations: dict[tuple[QueryView, torch.dtype], Rotation | None] = {}
        self._spans: dict[tuple[int, int, QueryView], KeySpan] = {}

    def rotate(self, x: Tensor, view: QueryView = AS_IS) -> Tensor:
        """(..., B, H, T, d) -> same, turned by this forward's positions as the view has them."""
        key = (view, x.dtype)
        if key not in self._rotations:
            pos = view.q_pos(self.pos)
            self._rotations[key] = self.posenc.rotation(pos, x.dtype, self.length)
        rotation = self._rotations[key]
        return x if rotation is None else rotation.turn(x)

    def span(self, start: int, stop: int, view: QueryView = AS_IS) -> "KeySpan":
        """What the queries of this forward see of the columns from start to stop."""
        key = (start, stop, view)
        if key not in self._spans:
            self._spans[key] = KeySpan(self, start, stop, view)
        return self._spans[key]


class KeySpan:
    """Mask and bias between the queries of a forward and some keys."""

    def __init__(self, context: Context, start: int, stop: int, view: QueryView):
        self.context, self.num_q = context, context.pos.shape[-1]
        allows = view.allows
        plain = context.plain and allows is None
        self.mask = Mask(
            context.fn if allows is None else all_of(context.fn, allows),
            view.q_pos(context.pos),
            context.k_pos[..., start:stop],
            batch=context.batch,
            num_heads=context.num_heads,
            q_offset=context.first - start if plain else None,
        )
        self._whole: tuple[Mask, Tensor | None] | None = None

    def attend(self, kernel: Kernel, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        """(B, H, Tq, d): all queries at once, or by rows where mask or bias would be too large."""
        if self._formless or self._size <= WHOLE:
            return kernel(q, k, v, *self.whole(), scale)
        outs = []
        for rows in self.rows():
            mask, bias = self.part(rows)
            keys = slice(0, mask.k_pos.shape[-1])
            outs.append(kernel(q[:, :, rows], k[:, :, keys], v[:, :, keys], mask, bias, scale))
        return torch.cat(outs, 2)

    def whole(self) -> tuple[Mask, Tensor | None]:
        """Mask and bias of all the queries, kept for the other layers."""
        if self._whole is None:
            mask = self.mask
            self._whole = mask, self.context.posenc.bias(mask.q_pos, mask.k_pos)
        return self._whole

    def part(self, rows: slice) -> tuple[Mask, Tensor | None]:
        """Mask and bias of some queries and the keys they may see: no later ones where plain."""
        num_k = self.mask.k_pos.shape[-1]
        if self.mask.q_offset is not None:
            num_k = max(1, min(num_k, self.mask.q_offset + rows.stop))
        mask = self.mask.part(rows, slice(0, num_k))
        return mask, self.context.posenc.bias(mask.q_pos, mask.k_pos)

    def rows(self) -> list[slice]:
        """The queries in parts for which mask and bias are small."""
        step = max(1, PART * self.num_q // self._size)
        return [slice(i, min(i + step, self.num_q)) for i in range(0, self.num_q, step)]

    @property
    def _size(self) -> int:
        return self.context.num_heads * self.num_q * self.mask.k_pos.shape[-1]

    @property
    def _formless(self) -> bool:
        """A kernel can do without a mask and bias of T x T."""
        square_or_open = self.mask.pure_causal or self.mask.sees_all
        return square_or_open and not self.context.posenc.adds_bias
