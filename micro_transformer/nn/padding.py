"""Padding of token ids, and the positions of the tokens between the pads."""

from torch import Tensor

PAD = 0  # id of padding, never a real token

# B batch, T tokens


def positions(ids: Tensor) -> Tensor:
    """(B, T): 0, 1, 2, ... over the tokens of each row that are not pads, -1 at pads."""
    real = ids != PAD
    return (real.cumsum(-1) - 1).masked_fill(~real, -1)
