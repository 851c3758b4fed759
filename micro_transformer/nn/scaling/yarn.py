"""YaRN."""

import math

import torch
from torch import Tensor

from micro_transformer.config.knobs import Factor, Positive
from micro_transformer.nn.scaling.base import Scaling

LEAST_FALL = 1e-9  # for bases so near 1 that float32 cannot tell a pair from the next


class YaRN(Scaling):
    """NTK by parts and a temperature (Peng et al., 2023, sections 3.2 and 3.4).

    Pairs that turn more than beta_fast times over the trained length are left alone, those that
    turn less than beta_slow times are interpolated by `factor`; between them the share falls
    linearly with the index of the pair, as in the authors' code and all released models (the paper
    says: with the number of turns). q·k is multiplied by (0.1 ln factor + 1)², which the authors
    apply as its root to queries and keys; here the rotation keeps norms.
    """

    divides_by_width_less_two = True

    def __init__(self, *, factor: Factor, beta_fast: Positive = 32.0, beta_slow: Positive = 1.0):
        if beta_fast <= beta_slow:
            raise ValueError(
                f"scaling.beta_fast={beta_fast:g}: must be above scaling.beta_slow={beta_slow:g}, "
                "as the pairs between them are blended"
            )
        self.factor, self.beta_fast, self.beta_slow = factor, beta_fast, beta_slow

    def __call__(
        self, inv_freq: Tensor, *, original_len: int, target_len: int
    ) -> tuple[Tensor, float]:
        half = inv_freq.shape[0]
        fall = max(-math.log(inv_freq[1].item()), LEAST_FALL)  # of log frequency, from pair to pair

        def pair(turns: float) -> float:
            """The index of the pair that turns so often over the trained length."""
            return (math.log(original_len) - math.log(2 * math.pi) - math.log(turns)) / fall

        low = max(math.floor(pair(self.beta_fast)), 0)
        high = min(math.ceil(pair(self.beta_slow)), 2 * half - 1)
        index = torch.arange(half, dtype=inv_freq.dtype, device=inv_freq.device)
        interpolated = ((index - low) / max(high - low, 0.001)).clamp(0, 1)
        blended = inv_freq * (1 - interpolated + interpolated / self.factor)
        return blended, (0.1 * math.log(self.factor) + 1) ** 2
