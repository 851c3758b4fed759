"""YaRN: frequency-dependent interpolation and a temperature."""

import math

import torch
from torch import Tensor

from micro_transformer.config.knobs import Factor, Positive
from micro_transformer.nn.scaling.base import Scaling
from micro_transformer.wording import _

LEAST_FALL = 1e-9  # for bases so close to 1 that adjacent frequencies are equal in float32


class YaRN(Scaling):
    """NTK-by-parts and a temperature (Peng et al., 2023, sections 3.2 and 3.4).

    Pairs with more than beta_fast turns over the training length keep their frequency; it is
    divided by `factor` for pairs with fewer than beta_slow turns. In between the blend is linear in
    the index of the pair, as in the authors' code and all released models (in the paper: in the
    number of turns). q·k is multiplied by (0.1 ln factor + 1)²; the authors multiply queries and
    keys by its root instead, but here the rotation keeps norms.
    """

    divides_by_width_less_two = True
    relations = (("beta_fast", "above", "beta_slow"),)

    def __init__(self, *, factor: Factor, beta_fast: Positive = 32.0, beta_slow: Positive = 1.0):
        if beta_fast <= beta_slow:
            raise ValueError(
                _(
                    "scaling.beta_fast={beta_fast}: must be above "
                    "scaling.beta_slow={beta_slow}, as the pairs between them are "
                    "blended",
                    beta_fast=f"{beta_fast:g}",
                    beta_slow=f"{beta_slow:g}",
                )
            )
        self.factor, self.beta_fast, self.beta_slow = factor, beta_fast, beta_slow

    def __call__(
        self, inv_freq: Tensor, *, original_len: int, target_len: int
    ) -> tuple[Tensor, float]:
        half = inv_freq.shape[0]
        # Decrease of the log frequency from one pair to the next.
        fall = max(-math.log(inv_freq[1].item()), LEAST_FALL)

        def pair(turns: float) -> float:
            """Index (real) of the pair with this number of turns over the training length."""
            return (math.log(original_len) - math.log(2 * math.pi) - math.log(turns)) / fall

        low = max(math.floor(pair(self.beta_fast)), 0)
        high = min(math.ceil(pair(self.beta_slow)), 2 * half - 1)
        index = torch.arange(half, dtype=inv_freq.dtype, device=inv_freq.device)
        interpolated = ((index - low) / max(high - low, 0.001)).clamp(0, 1)
        blended = inv_freq * (1 - interpolated + interpolated / self.factor)
        return blended, (0.1 * math.log(self.factor) + 1) ** 2
