"""softmax(scores) v, accumulated over blocks of keys."""

import torch
from torch import Tensor

from micro_transformer.nn.masks import Mask

# B batch, H heads, Tq queries, n keys of a block, d head_dim

NEVER = float("-inf")


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
        """Adds a block: scores (B, H, Tq, n), float32 or wider, -inf if masked; v (B, H, n, d)."""
        largest = scores.detach().amax(-1, keepdim=True)
        if self._largest is not None:
            largest = torch.maximum(self._largest, largest)
        base = largest.masked_fill(largest == NEVER, 0.0)  # no visible key so far: weights are 0
        weights = (scores - base).exp()
        kept = 0.0 if self._largest is None else (self._largest - base).exp()
        self._sum = self._sum * kept + weights.sum(-1, keepdim=True)
        self._out = self._out * kept + (weights.to(v.dtype) @ v).to(scores.dtype)
        self._largest = largest

    def result(self) -> Tensor:
        """(B, H, Tq, d) over the blocks added; 0 for a query that saw no key."""
        assert isinstance(self._sum, Tensor) and isinstance(self._out, Tensor), "add comes first"
        return self._out / self._sum.masked_fill(self._sum == 0, 1.0)


def masked_scores(q: Tensor, k: Tensor, mask: Mask, bias: Tensor | None, scale: float) -> Tensor:
    """scale · q·k + bias (B, H, Tq, n) in float32 or wider, -inf where masked."""
    # (B, H, Tq, n)
    scores = (q @ k.mT).to(torch.promote_types(q.dtype, torch.float32)) * scale
    if bias is not None:
        scores = scores + bias
    return scores if mask.sees_all else scores.masked_fill(~mask.dense(), NEVER)
