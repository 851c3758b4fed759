"""Base class of attention kernels."""

from torch import Tensor, nn

from micro_transformer.nn.masks import Mask

# B batch, H heads, Tq queries, Tk keys, d head_dim


class Kernel(nn.Module):
    """softmax(scale · q·k + bias) v over the keys that the mask allows. No parameters.

    The output of a fully masked query is exactly 0, with finite gradients.
    """

    gives_weights = False  # True: weights pass through a submodule `weights`, for hooks

    def forward(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Mask, bias: Tensor | None, scale: float
    ) -> Tensor:
        """q (B, H, Tq, d), k and v (B, H, Tk, d) -> (B, H, Tq, d).

        bias broadcasts to (B, H, Tq, Tk) and is added after scaling.
        """
        raise NotImplementedError


def without_dead(out: Tensor, mask: Mask) -> Tensor:
    """out (B, H, Tq, ...) with 0 at fully masked queries."""
    return out if mask.fully_masked is None else out.masked_fill(mask.fully_masked, 0.0)
