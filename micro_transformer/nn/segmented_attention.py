"""Exact attention over keys and values stored in several segments."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from micro_transformer.nn.cache.base import QueryView, Segment
from micro_transformer.nn.context import PART, Context
from micro_transformer.nn.online_softmax import NEVER, OnlineSoftmax, masked_scores

# B batch, H heads, Tq queries, n keys of a segment, d head_dim


def attend(
    context: Context,
    queries: Callable[[QueryView], Tensor],
    segments: Sequence[Segment],
    scale: float,
) -> Tensor:
    """(B, H, Tq, d) over all segments; queries(view) is q (B, H, Tq, d), rotated for that view."""
    num_q = context.pos.shape[-1]
    num_k = sum(segment.stop - segment.start for segment in segments)
    small = context.num_heads * num_q * num_k <= PART
    return (_in_two_passes if small else _online)(context, queries, segments, scale)


def _in_two_passes(
    context: Context,
    queries: Callable[[QueryView], Tensor],
    segments: Sequence[Segment],
    scale: float,
) -> Tensor:
    """All scores, one softmax, then the values: half as many operations, for few scores.

    Outputs of the segments are summed in float32 or wider: bf16 would round at every segment.
    """
    # (B, H, Tq, n) each
    products = [queries(segment.view) @ segment.k.mT for segment in segments]
    scores = torch.cat(products, -1)  # (B, H, Tq, all n)
    dtype, wide = scores.dtype, torch.promote_types(scores.dtype, torch.float32)
    scores = scores.to(wide) * scale
    for segment, piece in zip(segments, _pieces(scores, segments), strict=True):
        mask, bias = context.span(segment.start, segment.stop, segment.view).whole()
        if bias is not None:
            piece += bias
        if not mask.sees_all:
            piece.masked_fill_(~mask.dense(), NEVER)
    if not context.plain:  # the output of a query that sees no key is 0, not NaN
        fully_masked = (scores == NEVER).all(-1, keepdim=True)
        scores = scores.masked_fill(fully_masked, 0.0)
    weights = scores.softmax(-1)
    if not context.plain:
        weights = weights.masked_fill(fully_masked, 0.0)
    weights = weights.to(dtype)
    out = None
    for segment, piece in zip(segments, _pieces(weights, segments), strict=True):
        product = (piece @ segment.v).to(wide)
        out = product if out is None else out.add_(product)
    assert out is not None, "there is a segment"
    return out.to(dtype)


def _pieces(x: Tensor, segments: Sequence[Segment]) -> Iterator[Tensor]:
    """Views (..., n) of x (..., all n), one per segment."""
    at = 0
    for segment in segments:
        size = segment.stop - segment.start
        yield x.narrow(-1, at, size)
        at += size


def _online(
    context: Context,
    queries: Callable[[QueryView], Tensor],
    segments: Sequence[Segment],
    scale: float,
) -> Tensor:
    """Online softmax, reading each segment once: memory is bounded at any length."""
    num_q = context.pos.shape[-1]
    longest = max(segment.stop - segment.start for segment in segments)
    step = max(1, PART // (context.num_heads * longest))
    rows = [slice(i, min(i + step, num_q)) for i in range(0, num_q, step)]
    sums = [OnlineSoftmax() for _ in rows]
    for segment in segments:
        span = context.span(segment.start, segment.stop, segment.view)
        q, k, v = queries(segment.view), segment.k, segment.v
        for part, total in zip(rows, sums, strict=True):
            mask = span.mask.part(part, slice(0, k.shape[2]))
            if not mask.sees_none:
                bias = context.posenc.bias(mask.q_pos, mask.k_pos)
                total.add(masked_scores(q[:, :, part], k, mask, bias, scale), v)
    return torch.cat([total.result() for total in sums], 2).to(q.dtype)
