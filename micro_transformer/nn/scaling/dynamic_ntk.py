"""NTK-aware scaling with a factor that depends on the length of the text."""

from torch import Tensor

from micro_transformer.nn.scaling.base import Scaling, with_base_raised


class DynamicNTK(Scaling):
    """NTK with factor max(1, target_len / original_len) (emozilla, 2023; Peng et al., 2023, 3.3).

    target_len is fixed per request before its first token: the length of a forward pass, or prompt
    plus new tokens of a generation. With a factor that grew during decoding, cached keys and values
    would come from other frequencies, and from the second layer on re-rotation cannot correct them.
    The option `factor` of transformers is fixed at 1, as in the paper.
    """

    divides_by_width_less_two = True

    def __call__(
        self, inv_freq: Tensor, *, original_len: int, target_len: int
    ) -> tuple[Tensor, float]:
        return with_base_raised(inv_freq, max(1.0, target_len / original_len)), 1.0
