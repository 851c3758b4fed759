"""Base class of feed-forward networks."""

from torch import Tensor, nn

from micro_transformer.nn.context import Context
from micro_transformer.nn.sublayer import SubLayer

# B batch, T tokens, D model width


class FFN(SubLayer):
    """(B, T, D) -> (B, T, D), each token independently. The defaults are those of a dense FFN."""

    def residual(self, x: Tensor, context: Context, index: int) -> Tensor:
        return self(x)

    def active_params(self) -> int:
        """Parameters used per token."""
        return sum(p.numel() for p in self.parameters())

    def flops_per_token(self) -> int:
        """FLOPs of the matrix products per token, forward: 2 per weight."""
        return sum(2 * m.weight.numel() for m in self.modules() if isinstance(m, nn.Linear))
