"""No scaling: the control."""

from torch import Tensor

from micro_transformer.nn.scaling.base import Scaling


class NoScaling(Scaling):
    """The frequencies of training, at every length."""

    def __call__(
        self, inv_freq: Tensor, *, original_len: int, target_len: int
    ) -> tuple[Tensor, float]:
        return inv_freq, 1.0
