"""softmax(scores) v, accumulated over blocks of keys."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from micro_transformer.nn.cache.base import Segment
from micro_transformer.nn.masks import Mask
from micro_transformer.nn.visibility import ALL, NONE

# B batch, H heads, Tq queries, n keys of a block, d head_dim; T rows and a, c columns of a product

NEVER = float("-inf")


class Piece(NamedTuple):
    """A segment of the keys with the queries q (B, H, Tq, d), as rotated for it, and their mask."""

    q: Tensor
    keys: Segment
    mask: Mask


class OnlineSoftmax:
    """softmax(scores) v, accumulated over blocks of keys (Milakov and Gimelshein, 2018).

    State per query: the running maximum of the scores, the sum of exp(score - maximum), and that
    sum weighted by v; a new maximum rescales both sums (Dao et al., 2022, algorithm 1).
    """

    def __init__(self) -> None:
        self._largest: Tensor | None = None
        self._sum: Tensor | float = 0.0
        self._out: Tensor | float = 0.0

    def add(self, scores: Tensor, v: Tensor) -> None:
        """Adds a block: scores (B, H, Tq, n), float32 or wider, -inf if masked; v (B, H, n, d), or
        (1, H, n, d) if all rows share it."""
        largest = scores.detach().amax(-1, keepdim=True)
        if self._largest is not None:
            largest = torch.maximum(self._largest, largest)
        base = largest.masked_fill(largest == NEVER, 0.0)  # no visible key so far: weights are 0
        weights = (scores - base).exp()
        kept = 0.0 if self._largest is None else (self._largest - base).exp()
        self._sum = self._sum * kept + weights.sum(-1, keepdim=True)
        self._out = self._out * kept + product(weights.to(v.dtype), v).to(scores.dtype)
        self._largest = largest

    def result(self) -> Tensor | None:
        """(B, H, Tq, d) over the blocks added, 0 for a query that saw no key; None without any."""
        if not isinstance(self._sum, Tensor) or not isinstance(self._out, Tensor):
            return None
        return self._out / self._sum.masked_fill(self._sum == 0, 1.0)


def product(x: Tensor, y: Tensor) -> Tensor:
    """x (B, H, T, a) times y (B, H, a, c), or (1, H, a, c) for all rows, which is read once:
    (B, H, T, c)."""
    if len(x) == len(y):
        return x @ y
    # (B, H, T, a), (H, B, T, a), (H, B·T, a), times (H, a, c)
    together = x.transpose(0, 1).flatten(1, 2) @ y[0]
    # (H, B·T, c), (H, B, T, c), (B, H, T, c)
    return together.unflatten(1, (len(x), -1)).transpose(0, 1)


def attend_online(pieces: Sequence[Piece], scale: float, rows: int, block: int) -> Tensor:
    """(B, H, Tq, d) over all pieces, for `rows` queries and `block` keys at a time.

    Reads each segment once; skips blocks that are known to be fully masked.
    """
    first = pieces[0].q
    parts = list(_blocks(first.shape[2], rows))
    sums = [OnlineSoftmax() for _ in parts]
    for q, segment, mask in pieces:
        k, v = segment.k, segment.v
        for keys in _blocks(k.shape[2], block):
            for part, total in zip(parts, sums, strict=True):
                seen = mask.part(part, keys)
                if seen.coverage is not NONE:
                    scores = _masked_scores(q[:, :, part], k[:, :, keys], seen, scale)
                    total.add(scores, v[:, :, keys])
    outs = [total.result() for total in sums]
    return torch.cat(
        [
            torch.zeros_like(first[:, :, part]) if out is None else out.to(first.dtype)
            for part, out in zip(parts, outs, strict=True)
        ],
        2,
    )


def _blocks(length: int, size: int) -> Iterator[slice]:
    return (slice(i, min(i + size, length)) for i in range(0, length, size))


def _masked_scores(q: Tensor, k: Tensor, mask: Mask, scale: float) -> Tensor:
    """scale · q·k + bias (B, H, Tq, n) in float32 or wider, -inf where masked."""
    # (B, H, Tq, n)
    scores = product(q, k.mT).to(torch.promote_types(q.dtype, torch.float32)) * scale
    bias = mask.bias
    if bias is not None:
        scores = scores + bias
    return scores if mask.coverage is ALL else scores.masked_fill(~mask.dense(), NEVER)
