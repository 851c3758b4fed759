"""Base class of RoPE scalings."""

from torch import Tensor


class Scaling:
    """New frequencies for a RoPE that was trained on shorter texts.

    Frequencies are (d/2,) float32, highest first, in radians per token; d: head_dim.
    """

    divides_by_width_less_two = False  # needs head_dim > 2

    def __call__(
        self, inv_freq: Tensor, *, original_len: int, target_len: int
    ) -> tuple[Tensor, float]:
        """(frequencies, factor on q·k); lengths in tokens: of training and of this text."""
        raise NotImplementedError


def with_base_raised(inv_freq: Tensor, factor: float) -> Tensor:
    """Frequencies for base · factor^(d / (d - 2)): the highest unchanged, the lowest / factor."""
    half = inv_freq.shape[0]
    exponents = -inv_freq.new_tensor(range(half)) / (half - 1)
    return inv_freq * factor**exponents
