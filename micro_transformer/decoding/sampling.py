"""Sampling with temperature, top-k, top-p, typical, min-p and penalties."""

from typing import Any

import torch
from torch import Tensor

from micro_transformer.config.knobs import Count, NonNegative, Probability, Share
from micro_transformer.decoding import processors
from micro_transformer.decoding.base import Draws, Step, extend
from micro_transformer.decoding.penalties import Penalised
from micro_transformer.decoding.processors import Processor


class Sampling(Penalised):
    """Each token is drawn from the softmax of the processed logits."""

    up_to_vocabulary = ("top_k",)

    def __init__(
        self,
        *,
        temperature: NonNegative = 1.0,
        top_k: Count | None = None,
        top_p: Share | None = None,
        typical_p: Share | None = None,
        min_p: Probability | None = None,
        **shared: Any,
    ):
        super().__init__(**shared)
        self.temperature = temperature
        self.filters: list[Processor] = []
        if top_k is not None:
            self.filters.append(processors.top_k(top_k))
        if top_p is not None and top_p < 1:
            self.filters.append(processors.top_p(top_p))
        if typical_p is not None and typical_p < 1:
            self.filters.append(processors.typical(typical_p))
        if min_p:
            self.filters.append(processors.min_p(min_p))

    def __call__(
        self,
        step: Step,
        prompt: Tensor,
        max_new_tokens: int,
        *,
        draws: Draws,
        eos: int | None = None,
    ) -> Tensor:
        """(B, T) -> (B, T + n), sampled with the draws; temperature 0 is the argmax."""
        length = prompt.shape[1]
        chain, uniform = self.processors(length), draws.uniform(max_new_tokens).to(prompt.device)

        def choose(rows: Tensor, ids: Tensor, logits: Tensor) -> Tensor:
            for process in chain:
                logits = process(ids, logits)
            if self.temperature == 0:
                return logits.argmax(-1)
            return inverse_cdf(logits, uniform[rows, ids.shape[1] - length])

        return extend(step, prompt, max_new_tokens, choose, eos)

    def processors(self, prompt_len: int) -> list[Processor]:
        """Active processors, in order; an option at its neutral value adds none."""
        chain = self.penalties(prompt_len)
        if self.temperature not in (0, 1):
            chain.append(processors.temperature(self.temperature))
        return chain + self.filters


def inverse_cdf(logits: Tensor, uniform: Tensor) -> Tensor:
    """(B,) tokens drawn from the softmax of logits (B, V) by uniform (B,) in [0, 1); none has
    probability 0."""
    cdf = logits.softmax(-1, dtype=torch.float64).cumsum(-1)
    # The first token whose cumulative share is above: u <= 1 - 2^-52 times the last is below it.
    return torch.searchsorted(cdf, uniform[:, None] * cdf[:, -1:], right=True)[:, 0]
