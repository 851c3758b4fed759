"""NTK-aware scaling by as much as the text at hand needs."""

from torch import Tensor

from micro_transformer.nn.scaling.base import Scaling, with_base_raised


class DynamicNTK(Scaling):
    """NTK with factor max(1, target_len / original_len) (emozilla, 2023; Peng et al., 2023, 3.3).

    target_len is fixed for a request before its first token: the length of a forward, or prompt and
    new tokens of a generation. A factor that grew on the way would leave keys and values in the
    cache that were made under other frequencies, and from the second layer on no re-rotation could
    mend them. transformers' knob `factor` is 1 here, which is the paper's.
    """

    divides_by_width_less_two = True

    def __call__(
        self, inv_freq: Tensor, *, original_len: int, target_len: int
    ) -> tuple[Tensor, float]:
        return with_base_raised(inv_freq, max(1.0, target_len / original_len)), 1.0
