"""8-bit asymmetric quantization with shared scales."""

import torch
from torch import Tensor

# B batch, H heads, d head_dim; group: tokens per group

LEVELS = 255
STEP = 2.0**-24  # the smallest subnormal float16
ROUNDING = 2.0**-10  # twice the relative error of rounding to float16
LARGEST = 65024.0  # the largest float16 is 65504; dequantized, it may be half a step (257) more


class Quantized:
    """x (B, H, groups, group, d) as zero + scale · code: uint8 codes, float16 scale and zero.

    Scale and zero are shared along `axis`. Error: |x - x'| <= scale / 2 but for float32 rounding,
    as zero is rounded down and scale up to float16 before codes are computed. Step size:
    scale <= 1.002 · (max - min + |min| / 680) / 255 + 2^-22, so values whose range is below 1/680
    of their magnitude may have a coarser step. Values are clamped to ±65,024, infinities included,
    so that dequantized ones fit float16.
    """

    def __init__(self, shape: tuple[int, ...], axis: int, device: torch.device):
        shared = list(shape)
        shared[axis] = 1
        self.axis = axis
        self.codes = torch.empty(shape, dtype=torch.uint8, device=device)
        self.scale = torch.empty(shared, dtype=torch.float16, device=device)
        self.zero = torch.empty_like(self.scale)

    def put(self, at: int, x: Tensor) -> None:
        """x (B, H, group, d) is stored as group number `at`."""
        x = x.float().clamp(-LARGEST, LARGEST)
        low, high = x.amin(self.axis, keepdim=True), x.amax(self.axis, keepdim=True)
        zero = low.half()
        zero = torch.where(zero > low, (low - low.abs() * ROUNDING - STEP).half(), zero)
        scale = ((high - zero) / LEVELS * (1 + ROUNDING) + STEP).half()
        codes = ((x - zero) / scale).round().clamp(0, LEVELS)
        self.codes[:, :, at], self.scale[:, :, at], self.zero[:, :, at] = codes, scale, zero

    def get(self, count: int, dtype: torch.dtype) -> Tensor:
        """(B, H, count · group, d) in dtype: the first `count` groups, dequantized."""
        x = self.codes[:, :, :count].float().mul_(self.scale[:, :, :count])
        return x.add_(self.zero[:, :, :count]).to(dtype).flatten(2, 3)  # (B, H, count · group, d)

    def reorder(self, rows: Tensor) -> None:
        """New row i is old row rows[i]."""
        self.codes, self.scale, self.zero = self.codes[rows], self.scale[rows], self.zero[rows]

    def tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        """Codes, scales and zeros, of all groups."""
        return self.codes, self.scale, self.zero
