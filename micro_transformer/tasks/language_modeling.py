"""Language modelling: the next token of running text, scored in nats per token, perplexity and
bits per byte.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from micro_transformer.data.prepared import Prepared
from micro_transformer.data.tokenizer import PAD, UNK
from micro_transformer.data.windows import Windows, fixed_windows, train_windows
from micro_transformer.tasks.base import Task
from micro_transformer.wording import _

SCORED_AT_ONCE = (
    4096  # tokens in a batch of `score`: large enough for full speed, small enough for the caches
)


def mean_nll(logits: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """(B, T, V), (B, T) -> scalar: mean of -log p over targets that are not PAD, in float32; 0 if
    all are PAD.
    """
    total = F.cross_entropy(
        logits.flatten(0, 1).float(),
        targets.flatten(),
        ignore_index=PAD,
        reduction="sum",
        label_smoothing=label_smoothing,
    )
    return total / (targets != PAD).sum().clamp(min=1)


class LanguageModeling(Task):
    """Base of the tasks on running text. The model is called as model(ids (B, T)) -> logits (B, T,
    V).
    """

    abstract = True
    gives = "text"

    def __init__(self, data: Prepared, *, window: int) -> None:
        super().__init__(data)
        self.window = window

    def train_batch(
        self,
        seed: int,
        step: int,
        batch_size: int,
        context: int,
        device: torch.device | str = "cpu",
    ) -> Windows:
        return train_windows(self.data.tokens("train"), seed, step, batch_size, context, device)

    def loss(self, model: nn.Module, batch: Windows, label_smoothing: float = 0.0) -> Tensor:
        return mean_nll(model(batch.ids), batch.targets, label_smoothing)

    def score(self, model: nn.Module, split: str = "val") -> dict[str, float]:
        """loss (nats per token), ppl, bits_per_byte (bytes of the text as it was before
        tokenization).

        The split is cut into cold windows of `window` tokens; every token but the very first is
        scored once.
        """
        tokens = self.data.tokens(split)
        if len(tokens) < 2:
            raise ValueError(
                _(
                    "split={split}: a text of {tokens} tokens has none to score; prepare more",
                    split=split,
                    tokens=len(tokens),
                )
            )
        device = next(model.parameters()).device
        total = 0.0
        with evaluating(model), torch.autocast(device.type, enabled=False):
            for ids, targets in fixed_windows(
                tokens, self.window, max(1, SCORED_AT_ONCE // self.window), device
            ):
                total += float(
                    F.cross_entropy(
                        model(ids).flatten(0, 1).float(), targets.flatten(), reduction="sum"
                    )
                )
        num_bytes = self.data.splits[split]["columns"]["text"]["bytes"]
        return nll_metrics(total, len(tokens) - 1, num_bytes - self._first_bytes(tokens, num_bytes))

    def _first_bytes(self, tokens: np.ndarray, num_bytes: int) -> float:
        """Bytes of a text's first token; if unknown, the mean over unknown tokens."""
        if tokens[0] != UNK:
            return self.tokenizer.num_bytes(tokens[:1])
        return (num_bytes - self.tokenizer.num_bytes(tokens)) / int((tokens == UNK).sum())


def nll_metrics(total: float, tokens: int, num_bytes: float) -> dict[str, Any]:
    """Sum of -log p (nats) over tokens, and their number of bytes -> loss, ppl, bits_per_byte."""
    loss = total / tokens
    bits = total / math.log(2) / num_bytes
    return {"loss": loss, "ppl": perplexity(loss), "bits_per_byte": bits}


def perplexity(loss: float) -> float:
    """exp(loss), infinite where a float ends; of no number none."""
    return math.inf if loss >= 700 else math.exp(loss)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model is in evaluation mode and records no gradients; its mode is restored."""
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        model.train(was_training)
