"""Prediction of tokens at positions of a sequence: what language modelling and recall share."""

import math
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from micro_transformer.data.tokenizer import PAD
from micro_transformer.tasks.base import Task

# Tokens per batch of `score`: enough for full speed, few enough for the processor's caches.
SCORED_AT_ONCE = 4096

# B batch, T tokens, V vocabulary size


def mean_nll(logits: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """(B, T, V), (B, T) -> scalar: mean of -log p over targets that are not PAD, in float32; 0 if
    all are PAD."""
    total = F.cross_entropy(
        logits.flatten(0, 1).float(),
        targets.flatten(),
        ignore_index=PAD,
        reduction="sum",
        label_smoothing=label_smoothing,
    )
    return total / (targets != PAD).sum().clamp(min=1)


def perplexity(loss: float) -> float:
    """exp(loss), infinite where a float ends; of no number none."""
    return math.inf if loss >= 700 else math.exp(loss)


class TokenPrediction(Task):
    """Base class of tasks whose batch has `ids` and `targets`, (B, T) each. A target of PAD asks
    nothing. The model is called as model(ids) -> logits (B, T, V)."""

    abstract = True
    gives: tuple[str, ...] = ("tokens",)

    def num_tokens(self, batch: Any) -> Tensor:
        return (batch.ids != PAD).sum()

    def num_scored(self, batch: Any) -> Tensor:
        return (batch.targets != PAD).sum()

    def loss(self, model: nn.Module, batch: Any, label_smoothing: float = 0.0) -> Tensor:
        return mean_nll(model(batch.ids), batch.targets, label_smoothing)
