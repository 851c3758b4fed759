"""What may be done to logits before a token is drawn.

A processor is a pure function (ids (B, T), logits (B, V)) -> new logits (B, V), and finite ones of
finite logits, but for tokens that it removes. At its neutral value it changes no bit. Sampling
applies them in this order: repetition, frequency and presence, temperature, top-k, top-p, min-p.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from micro_transformer.decoding.base import PAD

Processor = Callable[[Tensor, Tensor], Tensor]
NEVER = float("-inf")
EXTREME = 2.0**50  # a larger penalty or temperature acts as this, a smaller one as its inverse: two
# of them on one logit are far from the end of float32, 2^128


def repetition(penalty: float) -> Processor:
    """Tokens seen so far, prompt included, are less likely: l / penalty if l > 0, else l · penalty.

    Once a token, however often it was seen (Keskar et al., 2019, with the sign put right: dividing
    a negative logit would be a reward). It is not shift-invariant: it takes raw logits.
    """
    penalty = _within(penalty, 1 / EXTREME)

    def apply(ids: Tensor, logits: Tensor) -> Tensor:
        lower = torch.where(logits > 0, logits / penalty, logits * penalty)
        return torch.where(_counts(ids, logits) > 0, lower, logits)

    return apply


def frequency(penalty: float, *, start: int) -> Processor:
    """l - penalty · (times the token stands in ids[start:]); start is where the prompt ends."""
    penalty = _within(penalty, -EXTREME)

    def apply(ids: Tensor, logits: Tensor) -> Tensor:
        return logits - penalty * _counts(ids[:, start:], logits)

    return apply


def presence(penalty: float, *, start: int) -> Processor:
    """l - penalty for every token that stands in ids[start:]; start is where the prompt ends."""
    penalty = _within(penalty, -EXTREME)

    def apply(ids: Tensor, logits: Tensor) -> Tensor:
        return logits - penalty * _counts(ids[:, start:], logits).clamp(max=1)

    return apply


def temperature(value: float) -> Processor:
    """l / value: below 1 sharper, above 1 flatter."""
    value = _within(value, 1 / EXTREME)
    return lambda ids, logits: logits / value


def top_k(k: int) -> Processor:
    """Only the k highest logits, and those equal to the k-th (Fan et al., 2018)."""

    def apply(ids: Tensor, logits: Tensor) -> Tensor:
        kth = logits.topk(min(k, logits.shape[-1])).values[:, -1:]
        return logits.masked_fill(logits < kth, NEVER)

    return apply


def top_p(p: float) -> Processor:
    """Only the smallest set of tokens whose probability reaches p (Holtzman et al., 2020); 1: all.

    In float64: the sum of thousands of float32 may pass 0.999999 too early or never.
    """
    p = p if p < 1 else math.inf  # rounded, a sum may reach 1 before the last token

    def apply(ids: Tensor, logits: Tensor) -> Tensor:
        probabilities, order = logits.double().softmax(-1).sort(descending=True, stable=True)
        before = probabilities.cumsum(-1) - probabilities  # mass of the likelier tokens
        beyond = before >= p  # never the first, which has nothing before it
        return logits.masked_fill(torch.zeros_like(beyond).scatter(1, order, beyond), NEVER)

    return apply


def min_p(share: float) -> Processor:
    """Only tokens at least `share` times as probable as the best one (Nguyen et al., 2024)."""

    def apply(ids: Tensor, logits: Tensor) -> Tensor:
        probabilities = logits.softmax(-1)
        least = share * probabilities.amax(-1, keepdim=True)
        return logits.masked_fill(probabilities < least, NEVER)

    return apply


def _within(value: float, least: float) -> float:
    """value, or the nearest that is between least and EXTREME."""
    return min(max(value, least), EXTREME)


def _counts(ids: Tensor, logits: Tensor) -> Tensor:
    """(B, V): how often each token stands in ids; pads are no tokens."""
    real = (ids != PAD).to(logits.dtype)
    return torch.zeros_like(logits).scatter_add(1, ids, real)
