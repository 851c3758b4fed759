"""NTK-aware scaling by a fixed factor."""

from torch import Tensor

from micro_transformer.config.knobs import Factor
from micro_transformer.nn.scaling.base import Scaling, with_base_raised


class NTK(Scaling):
    """RoPE with base · factor^(d / (d - 2)) (bloc97, 2023; Peng et al., 2023, section 3.1)."""

    divides_by_width_less_two = True

    def __init__(self, *, factor: Factor):
        self.factor = factor

    def __call__(
        self, inv_freq: Tensor, *, original_len: int, target_len: int
    ) -> tuple[Tensor, float]:
        return with_base_raised(inv_freq, self.factor), 1.0
