"""Base class of positional encodings: hooks with neutral defaults."""

from collections.abc import Callable
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn

from micro_transformer.nn.dims import Dims

# B batch, H heads, T tokens (Tq queries, Tk keys), d head_dim, D = H·d model width


class Rotation(NamedTuple):
    """cos and signed sin of the rotation angles of channel pairs (i, i + d/2).

    Both broadcast to (B, H, T, d); sin is negated in the first half of the channels.
    """

    cos: Tensor
    sin: Tensor

    def turn(self, x: Tensor) -> Tensor:
        """(..., T, d) -> same: every channel pair rotated, norms unchanged."""
        return torch.addcmul(x * self.cos, x.roll(x.shape[-1] // 2, -1), self.sin)


class PositionalEncoding(nn.Module):
    """Base of positional encodings; a subclass overrides the hook that it needs.

    Positions are (T,) or (B, T), -1 at pads, whose outputs are masked later.
    """

    pairs_channels = False  # needs an even head_dim
    trained_table = False  # limited to the max_len positions of a learned table
    adds_bias = False  # `bias` returns a tensor
    relative = False  # scores depend on the distance i - j only
    scalable = False  # has `stretch`, for RoPE scalings
    max_len: int | None = None  # tokens; None: no limit

    def __init__(self, dims: Dims):
        super().__init__()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Buffers move with the net but remain float32: in bf16 angles are off by whole turns."""
        exact = dict(self.named_buffers(recurse=False))
        super()._apply(fn, recurse)
        for name, buffer in exact.items():
            setattr(self, name, buffer.to(getattr(self, name).device))
        return self

    def embed(self, x: Tensor, pos: Tensor) -> Tensor:
        """Token embeddings (B, T, D) -> (B, T, D), the input of the first block."""
        return x

    def rotation(self, pos: Tensor, dtype: torch.dtype, length: int = 0) -> Rotation | None:
        """Rotation of queries and keys in self-attention, computed once for all layers.

        length: final length of the text in tokens, planned before the first one.
        Returns None if the encoding does not rotate.
        """
        return None

    def score_scale(self, length: int = 0) -> float:
        """Factor on q·k in a text of `length` tokens."""
        return 1.0

    def bias(self, q_pos: Tensor, k_pos: Tensor) -> Tensor | None:
        """Added to the scores: (H, Tq, Tk), or (B, H, Tq, Tk) where positions differ by row."""
        return None

    def bias_channels(self, pos: Tensor) -> tuple[Tensor, Tensor] | None:
        """Channels of queries and of keys at the positions pos (T,), (H, T, c) each in float64,
        whose product is the bias of every key that is not after its query; None: there are none.

        As the first channels of q and k they make the bias part of the product q·k, without a
        T x T tensor, exactly enough in float32 for 2^13 tokens and more.
        """
        return None
