"""Base class of the sub-layers of a Transformer block."""

from torch import Tensor, nn

from micro_transformer.nn.context import Context

# B batch, T tokens, D model width


class SubLayer(nn.Module):
    """The f of a residual branch x + f(norm(x)): attention, FFN."""

    def residual(self, x: Tensor, context: Context, index: int) -> Tensor:
        """(B, T, D), normalised -> (B, T, D), added to the residual stream. index: of the block."""
        return self(x, context, index)

    def projections(self) -> dict[str, tuple[str, range]]:
        """Maps name of a projection (q, k, v, out) -> its linear layer and its rows there."""
        return {}

    def residual_outputs(self) -> list[Tensor]:
        """Weights whose output is added to the residual stream."""
        raise NotImplementedError
