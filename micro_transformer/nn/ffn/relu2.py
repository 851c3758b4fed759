"""The plain FFN with a squared ReLU."""

from torch import Tensor

from micro_transformer.nn.dims import Dims
from micro_transformer.nn.ffn.base import FFN
from micro_transformer.nn.linear import Linear


class ReLU2(FFN):
    """down(relu(up(x))²) (So et al., 2021)."""

    def __init__(self, dims: Dims):
        super().__init__()
        self.up = Linear(dims.d_model, dims.d_ff, bias=dims.bias)
        self.down = Linear(dims.d_ff, dims.d_model, bias=dims.bias)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.up(x).relu()
        return self.down(hidden * hidden)  # square() is slower

    def outputs(self) -> list[Tensor]:
        return [self.down.weight]
