"""Base class of feed-forward networks."""

from torch import Tensor, nn

# B batch, T tokens, D model width


class FFN(nn.Module):
    """(B, T, D) -> (B, T, D), each token independently."""

    def outputs(self) -> list[Tensor]:
        """Weights whose output is added to the residual stream."""
        raise NotImplementedError

    def auxiliary_loss(self) -> Tensor | float:
        """Term of the last forward pass for the training loss; 0 for a dense FFN."""
        return 0.0
