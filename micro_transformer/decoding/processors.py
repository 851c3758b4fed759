"""Logits processors, applied before a token is sampled.

A processor is a pure function (ids (B, T), logits (B, V)) -> new logits (B, V); finite logits stay
finite, except -inf for removed tokens. At its neutral value it returns bit-identical logits. Order
in sampling: repetition, frequency and presence, n-grams, temperature, top-k, top-p, typical, min-p.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from micro_transformer.decoding.base import PAD

Processor = Callable[[Tensor, Tensor], Tensor]
NEVER = float("-inf")
EXTREME = 2.0**50  # penalties and temperatures are clamped to it, or below to its inverse: two of
# them on one logit are far from the float32 limit, 2^128


def repetition(penalty: float) -> Processor:
    """Logits l of tokens in ids, prompt included, become l / penalty if l > 0, else l · penalty.

    Applied once per token, regardless of its count (Keskar et al., 2019, with the sign corrected:
    dividing a negative logit would be a reward). Not shift-invariant: it needs the raw logits.
    """
    penalty = _within(penalty, 1 / EXTREME)

    def apply(ids: Tensor, logits: Tensor) -> Tensor:
        lower = torch.where(logits > 0, logits / penalty, logits * penalty)
        return torch.where(_counts(ids, logits) > 0, lower, logits)

    return apply


def frequency(penalty: float, *, start: int) -> Processor:
    """l - penalty · (count of the token in ids[:, start:]); start: length of the prompt."""
    penalty = _within(penalty, -EXTREME)

    def apply(ids: Tensor, logits: Tensor) -> Tensor:
        return logits - penalty * _counts(ids[:, start:], logits)

    return apply


def presence(penalty: float, *, start: int) -> Processor:
    """l - penalty for every token that occurs in ids[:, start:]; start: length of the prompt."""
    penalty = _within(penalty, -EXTREME)

    def apply(ids: Tensor, logits: Tensor) -> Tensor:
        return logits - penalty * _counts(ids[:, start:], logits).clamp(max=1)

    return apply


def no_repeat_ngram(size: int) -> Processor:
    """Removes each token that would repeat an n-gram of `size` tokens of ids, prompt included, pads
    not; a row that would be left without a token keeps all of them (Paulus et al., 2017)."""

    def apply(ids: Tensor, logits: Tensor) -> Tensor:
        if ids.shape[1] < size:
            return logits
        grams = ids.unfold(1, size, 1)  # (B, T - size + 1, size)
        repeats = (grams[..., :-1] == ids[:, None, ids.shape[1] - size + 1 :]).all(-1)
        repeats &= (grams != PAD).all(-1)
        # (B, V): counts of a token that would complete a repeated n-gram
        seen = torch.zeros_like(logits).scatter_add(1, grams[..., -1], repeats.to(logits.dtype))
        left = logits.masked_fill(seen > 0, NEVER)
        return torch.where((left == NEVER).all(-1, keepdim=True), logits, left)

    return apply


def temperature(value: float) -> Processor:
    """l / value: below 1 a sharper distribution, above 1 a flatter one."""
    value = _within(value, 1 / EXTREME)
    return lambda ids, logits: logits / value


def top_k(k: int) -> Processor:
    """Keeps the k highest logits and ties with the k-th (Fan et al., 2018)."""

    def apply(ids: Tensor, logits: Tensor) -> Tensor:
        kth = logits.topk(min(k, logits.shape[-1])).values[:, -1:]
        return logits.masked_fill(logits < kth, NEVER)

    return apply


def top_p(p: float) -> Processor:
    """Keeps the smallest set of tokens with total probability >= p (Holtzman et al., 2020); 1: all.

    In float64: a float32 sum of thousands of terms may reach 0.999999 too early or never.
    """
    p = p if p < 1 else math.inf  # a rounded sum may reach 1 before the last token

    def apply(ids: Tensor, logits: Tensor) -> Tensor:
        probabilities, order = logits.double().softmax(-1).sort(descending=True, stable=True)
        before = probabilities.cumsum(-1) - probabilities  # total of the more probable tokens
        beyond = before >= p  # never the first token, where before = 0
        return logits.masked_fill(torch.zeros_like(beyond).scatter(1, order, beyond), NEVER)

    return apply


def typical(mass: float) -> Processor:
    """Keeps the smallest set with total probability >= mass of those tokens whose surprise -log p
    is nearest to its mean, the entropy (Meister et al., 2022); ties with the last are kept."""
    mass = mass if mass < 1 else math.inf

    def apply(ids: Tensor, logits: Tensor) -> Tensor:
        log_probs = logits.double().log_softmax(-1)
        probabilities = log_probs.exp()
        entropy = -(probabilities * log_probs).nansum(-1, keepdim=True)  # 0 · -inf is 0
        distance = (-log_probs - entropy).abs()
        nearest, order = distance.sort(stable=True)
        total = probabilities.gather(1, order).cumsum(-1)
        last = (total < mass).sum(-1, keepdim=True).clamp(max=logits.shape[-1] - 1)
        return logits.masked_fill(distance > nearest.gather(1, last), NEVER)

    return apply


def min_p(share: float) -> Processor:
    """Keeps tokens with at least `share` times the top probability (Nguyen et al., 2024)."""

    def apply(ids: Tensor, logits: Tensor) -> Tensor:
        probabilities = logits.softmax(-1)
        least = share * probabilities.amax(-1, keepdim=True)
        return logits.masked_fill(probabilities < least, NEVER)

    return apply


def _within(value: float, least: float) -> float:
    """value, clamped to [least, EXTREME]."""
    return min(max(value, least), EXTREME)


def _counts(ids: Tensor, logits: Tensor) -> Tensor:
    """(B, V): count of each token in ids; pads are not counted."""
    real = (ids != PAD).to(logits.dtype)
    return torch.zeros_like(logits).scatter_add(1, ids, real)
