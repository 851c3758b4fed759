"""Fewer heads of keys and values than of queries: each is shared by a group of query heads.

Ainslie et al. (2023). A kernel sees equally many heads of both, in one of two ways: one query per
row becomes the queries of a group, so that cached keys are read once per group; several queries
per row take keys that are repeated for each head of the group.
"""

import torch
from torch import Tensor

from micro_transformer.nn.cache.base import Segment
from micro_transformer.nn.masks import Mask

# B batch, H query heads, G heads of keys and values, H/G heads per group, T tokens, n keys of a
# segment, d head_dim


class RepeatedHeads(Segment):
    """A segment whose keys and values are repeated for each query head; each access to k or v
    makes a copy, so that one segment at a time needs memory."""

    def __init__(self, segment: Segment, num_heads: int):
        self.start, self.stop, self.view = segment.start, segment.stop, segment.view
        self.segment, self.num_heads, self.shared = segment, num_heads, segment.shared

    @property
    def k(self) -> Tensor:  # type: ignore[override]
        """(B, H, n, d)."""
        return repeated(self.segment.k, self.num_heads)

    @property
    def v(self) -> Tensor:  # type: ignore[override]
        """(B, H, n, d)."""
        return repeated(self.segment.v, self.num_heads)


def repeated(x: Tensor, num_heads: int) -> Tensor:
    """(B, G, T, d) -> (B, H, T, d), each head H / G times in a row."""
    return x.repeat_interleave(num_heads // x.shape[1], 1)


class GroupedMask(Mask):
    """The mask (B, G, H/G, Tk) of one query per row, whose heads are the queries of a group."""

    def __init__(self, mask: Mask, kv_heads: int):
        self.mask, self.kv_heads = mask, kv_heads
        self.coverage, self.posenc, self.pure_causal = mask.coverage, mask.posenc, False
        self.group = mask.num_heads // kv_heads

    def part(self, rows: slice, keys: slice) -> Mask:
        part = self.mask.part(slice(0, 1), keys)
        return GroupedMask(part, self.kv_heads)

    def slices(self) -> list[tuple[slice, list[slice]]]:
        return [(slice(0, self.group), [slice(0, self.mask.k_pos.shape[-1])])]

    def dense(self) -> Tensor:
        return self._grouped(self.mask.dense())

    @property
    def bias(self) -> Tensor | None:
        bias = self.mask.bias
        return None if bias is None else self._grouped(bias)

    @property
    def fully_masked(self) -> Tensor | None:
        dead = self.mask.fully_masked
        return None if dead is None else self._grouped(dead)

    @property
    def hidden(self) -> Tensor:
        return self._grouped(self.mask.hidden)

    def additive(self, dtype: torch.dtype) -> Tensor:
        return self._grouped(self.mask.additive(dtype))

    def _grouped(self, x: Tensor) -> Tensor:
        """(..., H or 1, 1, n) -> (..., G or 1, H/G or 1, n)."""
        if x.ndim < 3 or x.shape[-3] == 1:
            return x
        return x.squeeze(-2).unflatten(-2, (self.kv_heads, self.group))  # (..., G, H/G, n)


def group_queries(q: Tensor, kv_heads: int) -> Tensor:
    """(B, H, 1, d) -> (B, G, H/G, d)."""
    return q.squeeze(2).unflatten(1, (kv_heads, -1))  # (B, H, d), then (B, G, H/G, d)


def ungroup(out: Tensor) -> Tensor:
    """(B, G, H/G, d) -> (B, H, 1, d)."""
    return out.flatten(1, 2).unsqueeze(2)  # (B, H, d), then (B, H, 1, d)
