"""The seam of RoPE scalings."""

from torch import Tensor


class Scaling:
    """New frequencies for a RoPE that was trained on shorter texts.

    Frequencies are (d/2,) float32, highest first, in radians a token.
    """

    divides_by_width_less_two = False  # heads of two channels are too narrow for it

    def __call__(
        self, inv_freq: Tensor, *, original_len: int, target_len: int
    ) -> tuple[Tensor, float]:
        """(frequencies, factor on q·k) for a text of target_len tokens, trained on original_len."""
        raise NotImplementedError


def with_base_raised(inv_freq: Tensor, factor: float) -> Tensor:
    """base · factor^(d / (d - 2)): the highest frequency stays, the lowest is divided by factor."""
    half = inv_freq.shape[0]
    exponents = -inv_freq.new_tensor(range(half)) / (half - 1)
    return inv_freq * factor**exponents
