"""State shared by all layers of a forward pass: positions, masks, bias, rotation, cache."""

import copy

import torch
from torch import Tensor

from micro_transformer.nn.cache.base import AS_IS, Cache, QueryView
from micro_transformer.nn.kernels.base import Kernel
from micro_transformer.nn.masks import Mask, MaskFn, all_of
from micro_transformer.nn.posenc.base import PositionalEncoding, Rotation

# B batch, H heads, T tokens (Tq queries, Tk keys), d head_dim

# Scores per sequence, H · Tq · Tk. Up to WHOLE, mask and bias are computed once and kept for all
# layers; above it, each layer computes them for PART scores at a time: megabytes, not gigabytes.
WHOLE = 2**24
PART = 2**22


class Context:
    """Built once per forward pass and shared by all layers; masks and rotations on first use.

    Column = index of a token in its row, cached ones first, pads included. pos: (Tq,) or (B, Tq).
    plain: the predicate is `causal` and positions equal columns, without pads. reach: number of
    columns that a query can see, its own included; None: all. length: final length of the text as
    planned for the cache; without a cache, that of this forward pass.
    """

    aux_scale: Tensor | None = None  # factor of the gradients of auxiliary losses; None: none

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

    def fresh(self) -> "Context":
        """The same forward pass with no mask, bias or rotation computed yet."""
        other = copy.copy(self)
        other._rotations, other._spans = {}, {}
        return other

    def rotate(self, x: Tensor, view: QueryView = AS_IS) -> Tensor:
        """(..., B, H, Tq, d) -> same, rotated by this pass's positions as the view maps them."""
        key = (view, x.dtype)
        if key not in self._rotations:
            pos = view.q_pos(self.pos)
            self._rotations[key] = self.posenc.rotation(pos, x.dtype, self.length)
        rotation = self._rotations[key]
        return x if rotation is None else rotation.turn(x)

    def span(self, start: int, stop: int, view: QueryView = AS_IS) -> "KeySpan":
        """Mask and bias of all queries of this pass over the columns start to stop - 1."""
        key = (start, stop, view)
        if key not in self._spans:
            self._spans[key] = KeySpan(self, start, stop, view)
        return self._spans[key]


class KeySpan:
    """Mask and bias between the queries of a forward pass and a range of key columns."""

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
        """(B, H, Tq, d) by the kernel; in slices of queries if mask or bias would be too large."""
        if self._formless or self._size <= WHOLE:
            return kernel(q, k, v, *self.whole(), scale)
        outs = []
        for rows in self.rows():
            mask, bias = self.part(rows)
            keys = slice(0, mask.k_pos.shape[-1])
            outs.append(kernel(q[:, :, rows], k[:, :, keys], v[:, :, keys], mask, bias, scale))
        return torch.cat(outs, 2)

    def whole(self) -> tuple[Mask, Tensor | None]:
        """Mask and bias of all queries, computed once for all layers."""
        if self._whole is None:
            mask = self.mask
            self._whole = mask, self.context.posenc.bias(mask.q_pos, mask.k_pos)
        return self._whole

    def part(self, rows: slice) -> tuple[Mask, Tensor | None]:
        """Mask and bias of a slice of queries; where plain, without the keys after the slice."""
        num_k = self.mask.k_pos.shape[-1]
        if self.mask.q_offset is not None:
            num_k = max(1, min(num_k, self.mask.q_offset + rows.stop))
        mask = self.mask.part(rows, slice(0, num_k))
        return mask, self.context.posenc.bias(mask.q_pos, mask.k_pos)

    def rows(self) -> list[slice]:
        """Slices of queries with about PART scores each."""
        step = max(1, PART * self.num_q // self._size)
        return [slice(i, min(i + step, self.num_q)) for i in range(0, self.num_q, step)]

    @property
    def _size(self) -> int:
        return self.context.num_heads * self.num_q * self.mask.k_pos.shape[-1]

    @property
    def _formless(self) -> bool:
        """No Tq x Tk mask or bias tensor is needed."""
        square_or_open = self.mask.pure_causal or self.mask.sees_all
        return square_or_open and not self.context.posenc.adds_bias
