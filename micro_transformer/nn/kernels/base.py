"""The seam of attention kernels."""

from torch import Tensor, nn

from micro_transformer.nn.masks import Mask


class Kernel(nn.Module):
    """softmax(scale · q·k + bias) v over the keys that the mask lets a query see. No parameters.

    A query that sees no key gets exactly 0, with finite gradients.
    """

    gives_weights = False  # whether attention weights pass through a seam named `weights`

    def forward(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Mask, bias: Tensor | None, scale: float
    ) -> Tensor:
        """(B, H, Tq, d), twice (B, H, Tk, d) -> (B, H, Tq, d).

        bias broadcasts to (B, H, Tq, Tk) and is added after scaling.
        """
        raise NotImplementedError


def without_dead(out: Tensor, mask: Mask) -> Tensor:
    """The rows of queries that see no key are 0."""
    return out if mask.fully_masked is None else out.masked_fill(mask.fully_masked, 0.0)
