"""Numbers in a byte each."""

import torch
from torch import Tensor

LEVELS = 255
STEP = 2.0**-24  # the smallest step of half precision
ROUNDING = 2.0**-10  # twice what rounding to half precision changes, relative
LARGEST = 65024.0  # half precision ends at 65504, and a read is half a step (257) off at most


class Quantized:
    """x (B, H, groups, group, d) as zero + scale · code, with scale and zero shared along `axis`.

    |x - read| <= scale / 2 but for float32 rounding: zero is rounded down and scale up to half
    precision before codes are formed, so that
    scale <= 1.002 · (range + |least| / 680) / 255 + 2^-22: values that differ by less than a part
    in 680 of their size may have a coarser step. Numbers beyond 65,024, infinite ones included, are
    cut to it, so that what is read fits half precision.
    """

    def __init__(self, shape: tuple[int, ...], axis: int, device: torch.device):
        shared = list(shape)
        shared[axis] = 1
        self.axis = axis
        self.codes = torch.empty(shape, dtype=torch.uint8, device=device)
        self.scale = torch.empty(shared, dtype=torch.float16, device=device)
        self.zero = torch.empty_like(self.scale)

    def put(self, at: int, x: Tensor) -> None:
        """x (B, H, group, d) becomes the group at that place."""
        x = x.float().clamp(-LARGEST, LARGEST)
        low, high = x.amin(self.axis, keepdim=True), x.amax(self.axis, keepdim=True)
        zero = low.half()
        zero = torch.where(zero > low, (low - low.abs() * ROUNDING - STEP).half(), zero)
        scale = ((high - zero) / LEVELS * (1 + ROUNDING) + STEP).half()
        codes = ((x - zero) / scale).round().clamp(0, LEVELS)
        self.codes[:, :, at], self.scale[:, :, at], self.zero[:, :, at] = codes, scale, zero

    def get(self, count: int, dtype: torch.dtype) -> Tensor:
        """(B, H, count · group, d): the first groups, as near as they are held."""
        x = self.codes[:, :, :count].float().mul_(self.scale[:, :, :count])
        return x.add_(self.zero[:, :, :count]).to(dtype).flatten(2, 3)

    def reorder(self, rows: Tensor) -> None:
        """Row i holds what row rows[i] held."""
        self.codes, self.scale, self.zero = self.codes[rows], self.scale[rows], self.zero[rows]

    def tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        """All that is held."""
        return self.codes, self.scale, self.zero
