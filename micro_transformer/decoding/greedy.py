"""Greedy decoding."""

import torch
from torch import Tensor

from micro_transformer.decoding.base import Step, Strategy, extend


class Greedy(Strategy):
    """The most probable token at every step; in a tie, the lowest id."""

    def __call__(
        self,
        step: Step,
        prompt: Tensor,
        max_new_tokens: int,
        *,
        generator: torch.Generator | None = None,
        eos: int | None = None,
    ) -> Tensor:
        """(B, T) -> (B, T + n); deterministic, the generator is not used."""
        return extend(step, prompt, max_new_tokens, lambda ids, logits: logits.argmax(-1), eos)
