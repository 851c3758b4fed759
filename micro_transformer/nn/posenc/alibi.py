"""ALiBi: attention with linear biases."""

import math

import torch
from torch import Tensor

from micro_transformer.nn.dims import Dims
from micro_transformer.nn.posenc.base import PositionalEncoding

# B batch, H heads, Tq queries, Tk keys


class ALiBi(PositionalEncoding):
    """Score bias -m_h · |i - j|, m_h = 2^(-8h/H) (Press et al., 2022). Not learned, any length.

    Under a causal mask |i - j| equals the paper's i - j; it also works in encoders.
    """

    adds_bias = True
    relative = True
    slopes: Tensor

    def __init__(self, dims: Dims):
        super().__init__(dims)
        self.register_buffer("slopes", torch.tensor(slopes(dims.num_heads)), persistent=False)

    def bias(self, q_pos: Tensor, k_pos: Tensor) -> Tensor:
        distance = (q_pos[..., :, None] - k_pos[..., None, :]).abs()  # (Tq, Tk) or (B, Tq, Tk)
        # (H, Tq, Tk) or (B, H, Tq, Tk)
        return distance.unsqueeze(-3) * -self.slopes[:, None, None]

    def bias_channels(self, pos: Tensor) -> tuple[Tensor, Tensor]:
        """-m i + m j, m in two parts: the products of the first, of 11 bits, with positions up to
        2^13 are exact in float32, and so is their difference; those of the rest are small."""
        slopes, pos = self.slopes.double()[:, None], pos.double()  # (H, 1)
        mantissa, exponent = torch.frexp(slopes)
        high = torch.ldexp((mantissa * 2**11).round() / 2**11, exponent)
        low, one = slopes - high, torch.ones_like(slopes * pos)  # (H, 1) and (H, T)
        queries = torch.stack((-high * pos, one, -low * pos, one), -1)  # (H, T, 4)
        keys = torch.stack((one, high * pos, one, low * pos), -1)  # (H, T, 4)
        return queries, keys


def slopes(num_heads: int) -> list[float]:
    """The paper's m_h; for H not a power of two as in the authors' code.

    Those of the next lower power P of two, then every other one of 2P.
    """
    lower = 2 ** math.floor(math.log2(num_heads))
    geometric = [2 ** (-8 * (h + 1) / lower) for h in range(lower)]
    between = [2 ** (-4 * (h + 1) / lower) for h in range(0, 2 * lower, 2)]
    return geometric + between[: num_heads - lower]
