"""Base class of dense feed-forward networks: one matrix up, an activation, one matrix down."""

from torch import Tensor

from micro_transformer.nn.dims import Dims
from micro_transformer.nn.ffn.base import FFN
from micro_transformer.nn.linear import Linear

# D model width


class Dense(FFN):
    """down(activate(up(x))). A subclass gives `activate`.

    d_ff: nominal hidden width, by default that of the net. gated: `up` gives two values per hidden
    unit, and 2/3 of d_ff units keep the number of parameters.
    """

    abstract = True
    is_expert = True  # a mixture can be made of it
    gated = False

    def __init__(self, dims: Dims, d_ff: int | None = None):
        super().__init__()
        rows, hidden = self.widths(d_ff or dims.d_ff)
        self.up = Linear(dims.d_model, rows, bias=dims.bias)
        self.down = Linear(hidden, dims.d_model, bias=dims.bias)

    @classmethod
    def widths(cls, d_ff: int) -> tuple[int, int]:
        """(output width of `up`, hidden width)."""
        return (2 * round(d_ff * 2 / 3), round(d_ff * 2 / 3)) if cls.gated else (d_ff, d_ff)

    @staticmethod
    def activate(x: Tensor) -> Tensor:
        """(..., output width of `up`) -> (..., hidden width); x may be overwritten without
        gradients."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        return self.down(self.activate(self.up(x)))

    def residual_outputs(self) -> list[Tensor]:
        return [self.down.weight]
