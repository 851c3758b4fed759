"""State shared by all layers of a forward pass: positions, masks, bias, rotation, cache."""

import torch
from torch import Tensor

from micro_transformer.nn.cache.base import AS_IS, Cache, QueryView, ScatteredSegment, Segment
from micro_transformer.nn.masks import Biases, Mask
from micro_transformer.nn.posenc.base import PositionalEncoding, Rotation
from micro_transformer.nn.visibility import Padded, Visibility, Wanted, all_of

# B batch, H heads, T tokens (Tq queries, Tk keys), d head_dim


class SharedMasks:
    """Masks and biases between the queries of a forward pass and ranges of key columns.

    Column = index of a token in its row, cached ones first, pads included. q_pos: (Tq,) or (B, Tq).
    k_pos: (n,) or (B, n), of all columns; the queries are the last ones. padded: positions may
    differ from columns, and be -1 at pads.
    """

    def __init__(
        self,
        visibility: Visibility,
        q_pos: Tensor,
        k_pos: Tensor,
        *,
        num_heads: int,
        batch: int,
        padded: bool,
        posenc: Biases | None = None,
    ):
        self.visibility, self.q_pos, self.k_pos, self.padded = visibility, q_pos, k_pos, padded
        self.batch, self.num_heads, self.posenc = batch, num_heads, posenc
        stop = k_pos.shape[-1]
        self.columns = range(stop - q_pos.shape[-1], stop)  # of the queries
        self._joined: dict[QueryView, Visibility] = {}
        self._masks: dict[tuple[object, ...], Mask] = {}
        self._wanted: Wanted | None = None

    def of(self, start: int, stop: int, view: QueryView = AS_IS) -> Mask:
        """The mask of all queries over the columns start to stop - 1."""
        key = (start, stop) if view is AS_IS else (start, stop, view)  # few hashes in decoding
        if key not in self._masks:
            q = view.columns(self.columns)
            self._masks[key] = Mask(
                self._visibility(view),
                view.q_pos(self.q_pos),
                self.k_pos[..., start:stop],
                None if q is None else (q, range(start, stop)),
                batch=self.batch,
                num_heads=self.num_heads,
                posenc=self.posenc,
            )
        return self._masks[key]

    def of_segment(self, segment: Segment) -> Mask:
        """The mask of all queries over a segment."""
        if not isinstance(segment, ScatteredSegment):
            return self.of(segment.start, segment.stop, segment.view)
        key = (segment.name, segment.view)
        if key not in self._masks:
            k_pos = positions_of(segment.columns, self.k_pos)
            q_pos = segment.view.q_pos(self.q_pos)
            self._masks[key] = Mask(
                Padded(self._visibility(segment.view)),
                q_pos.expand(len(k_pos), -1) if k_pos.ndim == 2 else q_pos,
                k_pos,
                batch=self.batch,
                num_heads=self.num_heads,
                posenc=self.posenc,
            )
        return self._masks[key]

    @property
    def wanted(self) -> Wanted:
        """The columns that the queries may see."""
        if self._wanted is None:
            keys = range(self.k_pos.shape[-1])
            self._wanted = Wanted(self._visibility(AS_IS), self.columns, keys)
        return self._wanted

    def _visibility(self, view: QueryView) -> Visibility:
        if view not in self._joined:
            joined = all_of(self.visibility, view)
            self._joined[view] = Padded(joined) if self.padded else joined
        return self._joined[view]


class Context:
    """Built once per forward pass and shared by all layers; masks and rotations on first use.

    pos: (Tq,) or (B, Tq). padded: positions may differ from columns, see SharedMasks. length: final
    length of the text as planned for the cache; without a cache, that of this forward pass.
    """

    aux_scale: Tensor | None = None  # factor of the gradients of auxiliary losses; None: none
    real: Tensor | None = None  # (B, Tq), which tokens are not pads; None: all, or not known

    def __init__(
        self,
        posenc: PositionalEncoding,
        visibility: Visibility,
        pos: Tensor,
        *,
        batch: int,
        num_heads: int,
        padded: bool,
        cache: Cache | None = None,
    ):
        self.posenc, self.pos, self.cache = posenc, pos, cache
        if padded and pos.ndim == 2:
            self.real = pos >= 0
        self.length = pos.shape[-1] if cache is None else cache.planned_len
        self.score_scale = posenc.score_scale(self.length)
        self.k_pos = pos if cache is None else cache.k_pos(pos)
        self.masks = SharedMasks(
            visibility,
            pos,
            self.k_pos,
            num_heads=num_heads,
            batch=batch,
            padded=padded,
            posenc=posenc,
        )
        self._rotations: dict[tuple[QueryView, torch.dtype], Rotation | None] = {}

    def rotate(self, x: Tensor, view: QueryView = AS_IS) -> Tensor:
        """(..., B, H, Tq, d) -> same, rotated by this pass's positions as the view maps them."""
        key = (view, x.dtype)
        if key not in self._rotations:
            pos = view.q_pos(self.pos)
            self._rotations[key] = self.posenc.rotation(pos, x.dtype, self.length)
        rotation = self._rotations[key]
        return x if rotation is None else rotation.turn(x)


def positions_of(columns: Tensor, k_pos: Tensor) -> Tensor:
    """Positions of columns (n,) or (B, n), of which k_pos (N,) or (B, N) has those up to N - 1.

    (n,) or (B, n); -1 for a column that is -1 or not in k_pos, as for a pad.
    """
    missing = (columns < 0) | (columns >= k_pos.shape[-1])
    columns = columns.masked_fill(missing, 0)
    if k_pos.ndim == 1 or columns.ndim == 1:
        found = k_pos[..., columns]
    else:
        found = k_pos.gather(1, columns.expand(len(k_pos), -1))
    return found.masked_fill(missing, -1)
