"""Attention masks: predicates on indices, and the boolean or additive masks built from them.

A predicate takes (b, h, q_pos, k_pos), index tensors that broadcast to (B, H, Tq, Tk), and returns
True where a query may attend to a key. The position of a pad is -1.
"""

from collections.abc import Callable

import torch
from torch import Tensor

# B batch, H heads, T tokens (Tq queries, Tk keys)

MaskFn = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def causal(b: Tensor, h: Tensor, q_pos: Tensor, k_pos: Tensor) -> Tensor:
    """True where the key's position is at most the query's."""
    return k_pos <= q_pos


def padding(b: Tensor, h: Tensor, q_pos: Tensor, k_pos: Tensor) -> Tensor:
    """True where the key is not a pad."""
    return k_pos >= 0


def selective(blocked: Tensor) -> MaskFn:
    """Keys where blocked (B, T) is True are visible to the query at their own position only."""

    def selective_mask(b: Tensor, h: Tensor, q_pos: Tensor, k_pos: Tensor) -> Tensor:
        return ~blocked[b, k_pos] | (q_pos == k_pos)

    return selective_mask


def window(width: int) -> MaskFn:
    """A query sees the last `width` positions, its own included: i - j < width."""

    def window_mask(b: Tensor, h: Tensor, q_pos: Tensor, k_pos: Tensor) -> Tensor:
        return k_pos > q_pos - width

    return window_mask


def all_of(*fns: MaskFn) -> MaskFn:
    """The logical and of the predicates."""

    def all_of_mask(b: Tensor, h: Tensor, q_pos: Tensor, k_pos: Tensor) -> Tensor:
        allowed = fns[0](b, h, q_pos, k_pos)
        for fn in fns[1:]:
            allowed = allowed & fn(b, h, q_pos, k_pos)
        return allowed

    return all_of_mask


class Mask:
    """A predicate over the positions of queries and keys; tensors are computed on first use.

    q_pos (Tq,) or (B, Tq), k_pos (Tk,) or (B, Tk). q_offset: position of the first query minus that
    of the first key, given only where the predicate is `causal`, positions are consecutive and
    there are no pads; None otherwise. With it, the properties below need not read the tensors.
    """

    def __init__(
        self,
        fn: MaskFn,
        q_pos: Tensor,
        k_pos: Tensor,
        *,
        batch: int = 1,
        num_heads: int = 1,
        q_offset: int | None = None,
    ):
        self.fn, self.q_pos, self.k_pos = fn, q_pos, k_pos
        self.batch, self.num_heads, self.q_offset = batch, num_heads, q_offset
        # Computed once, for all layers. No cached_property: its lock breaks torch.compile graphs.
        self._dense: Tensor | None = None
        self._fully_masked: Tensor | None = None
        self._hidden: Tensor | None = None
        self._additive: dict[torch.dtype, Tensor] = {}

    @property
    def pure_causal(self) -> bool:
        """The mask is known to be a square lower triangle, so is_causal kernels apply."""
        return self.q_offset == 0 and self.q_pos.shape[-1] == self.k_pos.shape[-1]

    @property
    def sees_all(self) -> bool:
        """Every query is known to see every key."""
        return self.q_offset is not None and self.q_offset >= self.k_pos.shape[-1] - 1

    @property
    def sees_none(self) -> bool:
        """Every key is known to come after every query, so this part can be skipped."""
        return self.q_offset is not None and self.q_offset + self.q_pos.shape[-1] <= 0

    def part(self, queries: slice, keys: slice) -> "Mask":
        """The mask of a slice of the queries and a slice of the keys."""
        q_offset = None if self.q_offset is None else self.q_offset + queries.start - keys.start
        return Mask(
            self.fn,
            self.q_pos[..., queries],
            self.k_pos[..., keys],
            batch=self.batch,
            num_heads=self.num_heads,
            q_offset=q_offset,
        )

    def dense(self) -> Tensor:
        """True = may attend; broadcasts to (B, H, Tq, Tk)."""
        if self._dense is None:
            self._dense = self._form()
        return self._dense

    @property
    def fully_masked(self) -> Tensor | None:
        """True at queries that see no key, (..., Tq, 1); None where each is known to see one."""
        if self._fully_masked is None and (self.q_offset is None or self.q_offset < 0):
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
        """0 where a query may attend, -inf elsewhere; all 0 for a fully masked query."""
        if dtype not in self._additive:
            zeros = torch.zeros((), dtype=dtype, device=self.k_pos.device)
            self._additive[dtype] = zeros.masked_fill(self.hidden, float("-inf"))
        return self._additive[dtype]

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
        return self.fn(b, h, q_pos, k_pos)
