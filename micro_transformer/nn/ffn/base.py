"""The seam of feed-forward networks."""

from torch import Tensor, nn


class FFN(nn.Module):
    """(B, T, D) -> (B, T, D), token by token."""

    def outputs(self) -> list[Tensor]:
        """The weights that write into the residual stream."""
        raise NotImplementedError

    def auxiliary_loss(self) -> Tensor | float:
        """What the last forward adds to the training loss; 0 for a dense net."""
        return 0.0
