"""Learned absolute positions."""

from torch import Tensor, nn

from micro_transformer.nn.dims import Dims
from micro_transformer.nn.posenc.base import PositionalEncoding


class Learned(PositionalEncoding):
    """x + table[pos] (Gehring et al., 2017; Radford et al., 2018). At most max_len positions."""

    trained_table = True

    def __init__(self, dims: Dims):
        super().__init__(dims)
        self.max_len = dims.max_len
        self.table = nn.Embedding(dims.max_len, dims.d_model)

    def embed(self, x: Tensor, pos: Tensor) -> Tensor:
        return x + self.table(pos.clamp(min=0))
