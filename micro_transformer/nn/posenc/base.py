"""The seam of positional encodings: three hooks that do nothing, and a scale."""

from collections.abc import Callable
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn

from micro_transformer.nn.dims import Dims


class Rotation(NamedTuple):
    """cos and signed sin of the angles to turn channel pairs (i, i + d/2) by.

    Both broadcast to (B, H, T, d); sin carries a minus on the first half of the channels.
    """

    cos: Tensor
    sin: Tensor

    def turn(self, x: Tensor) -> Tensor:
        """(..., T, d) -> same: every pair rotated, norms kept."""
        return torch.addcmul(x * self.cos, x.roll(x.shape[-1] // 2, -1), self.sin)


class PositionalEncoding(nn.Module):
    """Where tokens stand. An encoding overrides the one hook that it needs.

    Positions are (T,) or (B, T); a pad has -1, and what a hook gives there is never seen.
    """

    pairs_channels = False  # needs an even head width
    trained_table = False  # holds max_len positions, no more
    adds_bias = False  # `bias` gives one
    relative = False  # a score sees i - j only
    scalable = False  # `stretch` takes a RoPE scaling
    max_len: int | None = None  # tokens; None: no limit

    def __init__(self, dims: Dims):
        super().__init__()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Buffers move with the net and keep their float32: angles in bf16 are whole turns off."""
        exact = dict(self.named_buffers(recurse=False))
        super()._apply(fn, recurse)
        for name, buffer in exact.items():
            setattr(self, name, buffer.to(getattr(self, name).device))
        return self

    def embed(self, x: Tensor, pos: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D), before the first block."""
        return x

    def rotation(self, pos: Tensor, dtype: torch.dtype, length: int = 0) -> Rotation | None:
        """How to turn queries and keys of self-attention; formed once for all layers.

        length: tokens that the whole text will have, as planned before its first one.
        """
        return None

    def score_scale(self, length: int = 0) -> float:
        """Multiplies q·k in a text of so many tokens."""
        return 1.0

    def rotate(self, x: Tensor, pos: Tensor, length: int = 0) -> Tensor:
        """(B, H, T, d) -> (B, H, T, d), turned by its positions."""
        rotation = self.rotation(pos, x.dtype, length)
        return x if rotation is None else rotation.turn(x)

    def bias(self, q_pos: Tensor, k_pos: Tensor) -> Tensor | None:
        """Added to the scores: (H, Tq, Tk), or (B, H, Tq, Tk) where positions differ by row."""
        return None
