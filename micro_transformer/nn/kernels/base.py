"""Base class of attention kernels."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from micro_transformer.nn.cache.base import QueryView, Segment
from micro_transformer.nn.context import SharedMasks
from micro_transformer.nn.grouped_heads import (
    GroupedMask,
    RepeatedHeads,
    group_queries,
    ungroup,
)
from micro_transformer.nn.masks import PART, JoinedMask, Mask
from micro_transformer.nn.online_softmax import NEVER, Piece, attend_online, product
from micro_transformer.nn.visibility import ALL

# B batch, H heads, Tq queries, Tk keys, n keys of a segment, d head_dim


class Kernel(nn.Module):
    """softmax(scale · q·k + bias) v over the keys that the mask allows. No parameters.

    The output of a fully masked query is exactly 0, with finite gradients.
    """

    gives_weights = False  # True: weights pass through a submodule `weights`, for hooks
    takes_segments = False  # True: `over_segments` is this kernel's own; False: the default
    trains_on_cpu = True  # False: there is no backward pass on a CPU
    package: str | None = None  # that must be installed; it needs CUDA

    def __init__(self) -> None:
        super().__init__()
        self.ran: set[str] = set()  # what computed its outputs so far, where there is a choice

    def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Mask, scale: float) -> Tensor:
        """q (B, H, Tq, d), k and v (B, H, Tk, d) -> (B, H, Tq, d)."""
        raise NotImplementedError

    def note(self, what: str) -> None:
        """`what` is in `ran`."""
        if not torch.compiler.is_compiling():
            self.ran.add(what)

    def over_segments(self, pieces: Sequence[Piece], scale: float) -> Tensor:
        """(B, H, Tq, d) over the keys of all pieces.

        By default: online softmax, one segment at a time and as many queries as PART scores allow.
        """
        longest = max(keys.stop - keys.start for _, keys, _ in pieces)
        rows = max(1, PART // (pieces[0].q.shape[1] * longest))
        return attend_online(pieces, scale, rows, longest)


def attend(
    kernel: Kernel,
    queries: Callable[[QueryView], Tensor],
    segments: Sequence[Segment],
    masks: SharedMasks,
    scale: float,
    kv_heads: int,
) -> Tensor:
    """(B, H, Tq, d), exact over all segments; queries(view) is q (B, H, Tq, d) for that view.

    kv_heads: heads of the segments, each of which serves a group of query heads.
    """
    if kernel.takes_segments:
        segments = [part for segment in segments for part in segment.parts()]
    pieces = [Piece(queries(s.view), s, masks.of_segment(s)) for s in segments]
    if masks.num_heads == kv_heads:
        return _over(kernel, pieces, scale)
    if pieces[0].q.shape[2] > 1:
        pieces = [p._replace(keys=RepeatedHeads(p.keys, masks.num_heads)) for p in pieces]
        return _over(kernel, pieces, scale)
    grouped = [
        Piece(group_queries(q, kv_heads), keys, GroupedMask(mask, kv_heads))
        for q, keys, mask in pieces
    ]
    return ungroup(_over(kernel, grouped, scale))


def _over(kernel: Kernel, pieces: Sequence[Piece], scale: float) -> Tensor:
    if len(pieces) > 1 or pieces[0].keys.shared:
        return kernel.over_segments(pieces, scale)
    [(q, keys, mask)] = pieces
    return kernel(q, keys.k, keys.v, mask, scale)


def without_dead(out: Tensor, mask: Mask | JoinedMask) -> Tensor:
    """out (B, H, Tq, ...) with 0 at fully masked queries."""
    return out if mask.fully_masked is None else out.masked_fill(mask.fully_masked, 0.0)


def mask_scores(scores: Tensor, pieces: Sequence[Piece]) -> Tensor | None:
    """Adds biases to scores (B, H, Tq, all n) in place and hides keys; the fully masked queries.

    These, True in (..., Tq, 1), hide no key, so that a softmax is finite. None: there are none.
    """
    if all(mask.coverage is ALL and mask.posenc is None for _, _, mask in pieces):
        return None
    for part, (_, _, mask) in zip(split(scores, pieces), pieces, strict=True):
        bias = mask.bias
        if bias is not None:
            part += bias
        if mask.coverage is not ALL:
            part.masked_fill_(~mask.dense(), NEVER)
    dead = None
    for _, _, mask in pieces:
        if mask.fully_masked is None:
            return None
        dead = mask.fully_masked if dead is None else dead & mask.fully_masked
    assert dead is not None, "there is a piece"
    scores.masked_fill_(dead, 0.0)
    return dead


def weigh(weights: Tensor, pieces: Sequence[Piece]) -> Tensor:
    """weights (B, H, Tq, all n) times the values of all pieces: (B, H, Tq, d).

    Summed over segments in float32 or wider: a narrow dtype would round at every one.
    """
    wide = torch.promote_types(weights.dtype, torch.float32)
    out: Tensor | None = None
    for part, (_, keys, _) in zip(split(weights, pieces), pieces, strict=True):
        values = product(part, keys.v).to(wide)
        out = values if out is None else out.add_(values)
    assert out is not None, "there is a piece"
    return out.to(weights.dtype)


def split(x: Tensor, pieces: Sequence[Piece]) -> list[Tensor]:
    """Views (..., n) of x (..., all n), one per segment."""
    sizes = [keys.stop - keys.start for _, keys, _ in pieces]
    return [x] if len(sizes) == 1 else list(x.split_with_sizes(sizes, -1))  # (..., n) each
