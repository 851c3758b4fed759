"""Dense FFNs to compare a mixture of experts with, at its numbers of experts and choices."""

from torch import Tensor

from micro_transformer.config.components import find
from micro_transformer.config.knobs import Count, Several
from micro_transformer.nn.dims import Dims
from micro_transformer.nn.ffn.base import FFN


class Twin(FFN):
    """A dense FFN of kind `expert` whose width follows from E = num_experts and k = top_k."""

    abstract = True
    relations = (("top_k", "at_most", "num_experts"),)

    def __init__(self, dims: Dims, *, num_experts: Several, top_k: Count, expert: str):
        super().__init__()
        width = self.width(dims.d_ff, num_experts, top_k)
        self.dense = find("ffn", expert).load()(dims, width)

    @staticmethod
    def width(d_ff: int, num_experts: int, top_k: int) -> int:
        """Hidden width, given that of the net and of k experts together, d_ff."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        return self.dense(x)

    def residual_outputs(self) -> list[Tensor]:
        return self.dense.residual_outputs()


class IsoActive(Twin):
    """As many parameters per token as the mixture, its router apart: the width is d_ff."""

    @staticmethod
    def width(d_ff: int, num_experts: int, top_k: int) -> int:
        return d_ff


class IsoTotal(Twin):
    """As many parameters in total as the mixture, its router apart: the width is d_ff · E / k."""

    @staticmethod
    def width(d_ff: int, num_experts: int, top_k: int) -> int:
        return round(d_ff * num_experts / top_k)
