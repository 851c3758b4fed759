"""Attention masks: a visibility and a bias between the queries and the keys of one attention."""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from micro_transformer.nn.visibility import ALL, CAUSAL, EVERYTHING, SOME, Visibility

# B batch, H heads, T tokens (Tq queries, Tk keys)

# Scores per sequence, H · Tq · Tk. Up to WHOLE, mask and bias are computed once and kept for all
# layers; above it, each layer computes them for PART scores at a time: megabytes, not gigabytes.
WHOLE = 2**24
PART = 2**22
# Queries per slice, where slices skip at least half of the scores. For a window of 512 and T = 8192
# slices of 64 to 256 queries are equally fast within 15 %, forward and backward.
SLICE = 128
# The same, where slices skip at least a quarter, as of a lower triangle with pads or a bias: at
# T = 1024 with left pads, SDPA in fp32 takes 0.7 of the time, products in bf16 0.4.
COARSE = 256

Sides = tuple[range, range]


class Biases(Protocol):
    """What a mask asks of a positional encoding, whose docstrings say it."""

    adds_bias: bool
    relative: bool

    def bias(self, q_pos: Tensor, k_pos: Tensor) -> Tensor | None: ...

    def bias_channels(self, pos: Tensor) -> tuple[Tensor, Tensor] | None: ...


class Mask:
    """The visibility and the bias between queries and keys; tensors are computed on first use.

    q_pos (Tq,) or (B, Tq), k_pos (Tk,) or (B, Tk). sides: the consecutive positions of queries and
    keys, columns where padded; None: unknown. posenc: gives the bias; None: no bias. coverage: NONE
    if this part can be skipped, ALL if every query is known to see every key. pure_causal: known
    to be a square lower triangle, so is_causal kernels apply.
    """

    def __init__(
        self,
        visibility: Visibility,
        q_pos: Tensor,
        k_pos: Tensor,
        sides: Sides | None = None,
        *,
        batch: int = 1,
        num_heads: int = 1,
        posenc: Biases | None = None,
    ):
        self.visibility = visibility if sides is None else visibility.within(*sides)
        self.q_pos, self.k_pos, self.sides = q_pos, k_pos, sides
        self.batch, self.num_heads = batch, num_heads
        self.posenc = posenc if posenc is not None and posenc.adds_bias else None
        self.coverage = SOME if sides is None else self.visibility.coverage(*sides)
        square = sides is not None and sides[0] == sides[1]
        self.pure_causal = square and self.visibility == CAUSAL
        # Computed once, for all layers. No cached_property: its lock breaks torch.compile graphs.
        self._dense: Tensor | None = None
        self._fully_masked: Tensor | None = None
        self._hidden: Tensor | None = None
        self._bias: Tensor | None = None
        self._hiding: dict[torch.dtype, Tensor] = {}
        self._channels: tuple[Tensor, Tensor] | None = None
        self._slices: list[tuple[slice, list[slice]]] | None = None
        self._parts: dict[tuple[Visibility, int, int, int], Mask] = {}

    @classmethod
    def between(cls, visibility: Visibility, q: range, k: range, *, batch: int = 1) -> "Mask":
        """The mask between queries and keys at consecutive positions, without pads and bias."""
        q_pos, k_pos = (torch.arange(side.start, side.stop) for side in (q, k))
        return cls(visibility, q_pos, k_pos, (q, k), batch=batch)

    def part(self, rows: slice, keys: slice) -> "Mask":
        """The mask of a slice of the queries and a slice of the keys.

        Parts whose tensors are equal are one object, so these are computed once.
        """
        if self._size(rows, keys) == self._size():
            return self
        if self.sides is None:
            return self._part(rows, keys, None)
        q, k = self.sides[0][rows], self.sides[1][keys]
        seen = self.visibility.within(q, k)
        if not (seen.relative and (self.posenc is None or self.posenc.relative)):
            return self._part(rows, keys, (q, k))
        shift = 0 if seen is EVERYTHING and self.posenc is None else q.start - k.start
        alike = (seen, shift, len(q), len(k))
        if alike not in self._parts:
            part = self._part(rows, keys, (q, k))
            if sum(kept._size() for kept in self._parts.values()) + part._size() > WHOLE:
                return part
            self._parts[alike] = part
        return self._parts[alike]

    def over(self, rows: slice, keys: list[slice]) -> "Mask | JoinedMask":
        """The mask of a slice of the queries and one slice of the keys or more, side by side."""
        parts = [self.part(rows, each) for each in keys]
        return parts[0] if len(parts) == 1 else JoinedMask(parts)

    def slices(self) -> list[tuple[slice, list[slice]]]:
        """Slices of the queries, each with the keys that it may see; one where more do not help.

        They help where a quarter of the scores are skipped, or where mask or bias would be too
        large.
        """
        if self._slices is None:
            self._slices = self._cut()
        return self._slices

    def dense(self) -> Tensor:
        """True = may attend; broadcasts to (B, H, Tq, Tk)."""
        if self._dense is None:
            self._dense = self._form()
        return self._dense

    @property
    def bias(self) -> Tensor | None:
        """Added to the scores after scaling; broadcasts to (B, H, Tq, Tk). None: nothing is added.

        A learned one is computed by each layer: if it were kept, gradient checkpointing, which
        runs a layer twice, would find it the second time only.
        """
        if self.posenc is None or self._bias is not None:
            return self._bias
        bias = self.posenc.bias(self.q_pos, self.k_pos)
        assert bias is not None, "adds_bias says so"
        if not bias.requires_grad:
            self._bias = bias
        return bias

    @property
    def bias_channels(self) -> tuple[Tensor, Tensor] | None:
        """`PositionalEncoding.bias_channels` of a lower triangle; None where it does not apply."""
        if self.posenc is None or not self.pure_causal:
            return None
        if self._channels is None:
            self._channels = self.posenc.bias_channels(self.q_pos)
        return self._channels

    @property
    def fully_masked(self) -> Tensor | None:
        """True at queries that see no key, (..., Tq, 1); None where each is known to see one."""
        if self._fully_masked is None and not self._each_sees_itself:
            self._fully_masked = ~self.dense().any(-1, keepdim=True)
        return self._fully_masked

    @property
    def hidden(self) -> Tensor:
        """The complement of dense, except that a fully masked query hides no key.

        So its softmax is finite; kernels then set its output to 0, and gradients are finite too.
        """
        if self._hidden is None:
            dense, fully_masked = self.dense(), self.fully_masked
            self._hidden = ~dense if fully_masked is None else ~(dense | fully_masked)
        return self._hidden

    def additive(self, dtype: torch.dtype) -> Tensor:
        """The bias, or 0 without one, where a query may attend; -inf where it is `hidden`."""
        bias = self.bias
        if bias is not None:
            hidden = None if self.coverage is ALL else self.hidden
            bias = bias.to(dtype)
            return bias if hidden is None else bias.masked_fill(hidden, float("-inf"))
        if dtype not in self._hiding:
            zeros = torch.zeros((), dtype=dtype, device=self.k_pos.device)
            self._hiding[dtype] = zeros.masked_fill(self.hidden, float("-inf"))
        return self._hiding[dtype]

    @property
    def _each_sees_itself(self) -> bool:
        if self.sides is None or not self.visibility.relative:
            return self.coverage is ALL
        (q, k), same = self.sides, range(1)
        inside = k.start <= q.start and q.stop <= k.stop
        return self.coverage is ALL or (inside and self.visibility.coverage(same, same) is ALL)

    def _size(self, rows: slice = slice(None), keys: slice = slice(None)) -> int:
        """Scores per sequence of a part."""
        num_q, num_k = range(self.q_pos.shape[-1])[rows], range(self.k_pos.shape[-1])[keys]
        return self.num_heads * len(num_q) * len(num_k)

    def _part(self, rows: slice, keys: slice, sides: Sides | None) -> "Mask":
        return Mask(
            self.visibility,
            self.q_pos[..., rows],
            self.k_pos[..., keys],
            sides,
            batch=self.batch,
            num_heads=self.num_heads,
            posenc=self.posenc,
        )

    def _cut(self) -> list[tuple[slice, list[slice]]]:
        fine = self._rows(self.visibility.block or SLICE)
        if 2 * sum(self._size(rows, part) for rows, keys in fine for part in keys) <= self._size():
            return fine
        if self._size() > WHOLE:
            return self._rows(max(1, PART * self.q_pos.shape[-1] // self._size()))
        coarse = self._rows(COARSE)
        if 4 * sum(self._size(rows, part) for rows, keys in coarse for part in keys) <= (
            3 * self._size()
        ):
            return coarse
        return [(slice(0, self.q_pos.shape[-1]), [slice(0, self.k_pos.shape[-1])])]

    def _rows(self, step: int) -> list[tuple[slice, list[slice]]]:
        """Slices of `step` queries, cut at multiples of it, each with the keys that it may see."""
        num_q, num_k = self.q_pos.shape[-1], self.k_pos.shape[-1]
        first = 0 if self.sides is None else self.sides[0].start % step
        rows = [slice(max(i, 0), min(i + step, num_q)) for i in range(-first, num_q, step)]
        if self.sides is None:
            return [(part, [slice(0, num_k)]) for part in rows]
        q, k = self.sides
        seen = [self.visibility.ranges(q[part], k) for part in rows]
        return [
            (part, [slice(each.start - k.start, each.stop - k.start) for each in ranges])
            for part, ranges in zip(rows, seen, strict=True)
        ]

    def _form(self) -> Tensor:
        device = self.k_pos.device
        b = torch.arange(self.batch, device=device).view(-1, 1, 1, 1)  # (B, 1, 1, 1)
        h = torch.arange(self.num_heads, device=device).view(1, -1, 1, 1)  # (1, H, 1, 1)
        q_pos = self.q_pos[..., :, None]  # (Tq, 1) or (B, Tq, 1)
        k_pos = self.k_pos[..., None, :]  # (1, Tk) or (B, 1, Tk)
        if q_pos.ndim == 3:
            q_pos = q_pos[:, None]  # (B, 1, Tq, 1)
        if k_pos.ndim == 3:
            k_pos = k_pos[:, None]  # (B, 1, 1, Tk)
        return self.visibility.visible(b, h, q_pos, k_pos)


class JoinedMask:
    """The mask of queries over keys in several ranges, side by side; as `Mask`, for kernels."""

    pure_causal = False

    def __init__(self, parts: Sequence[Mask]):
        self.parts, self.posenc = parts, parts[0].posenc
        self.coverage = ALL if all(part.coverage is ALL for part in parts) else SOME

    def additive(self, dtype: torch.dtype) -> Tensor:
        """The parts' own, broadcast to (..., Tq, all n)."""
        tables = [part.additive(dtype) for part in self.parts]
        lead = torch.broadcast_shapes(*(table.shape[:-2] for table in tables))
        sizes = [(part.q_pos.shape[-1], part.k_pos.shape[-1]) for part in self.parts]
        return torch.cat(
            [t.expand(*lead, *size) for t, size in zip(tables, sizes, strict=True)], -1
        )

    @property
    def fully_masked(self) -> Tensor | None:
        """True at queries that see no key of any part, (..., Tq, 1); None where each sees one."""
        dead: Tensor | None = None
        for part in self.parts:
            if part.fully_masked is None:
                return None
            dead = part.fully_masked if dead is None else dead & part.fully_masked
        return dead
