"""Position interpolation."""

from torch import Tensor

from micro_transformer.config.knobs import Factor
from micro_transformer.nn.scaling.base import Scaling


class Linear(Scaling):
    """Position Interpolation: positions are divided by `factor` (Chen et al., 2023, eq. 4).

    Meant for a short fine-tuning at the longer length (train=extend). Without it, short texts lose
    positional resolution too.
    """

    def __init__(self, *, factor: Factor):
        self.factor = factor

    def __call__(
        self, inv_freq: Tensor, *, original_len: int, target_len: int
    ) -> tuple[Tensor, float]:
        return inv_freq / self.factor, 1.0
