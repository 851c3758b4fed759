"""Language modelling: the next token of running text, scored in nats per token, perplexity and
bits per byte.
"""

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from micro_transformer.data.prepared_dataset import Prepared
from micro_transformer.data.tokenizer import UNK
from micro_transformer.data.windows import Windows, fixed_windows, train_windows
from micro_transformer.tasks.base import evaluating
from micro_transformer.tasks.token_prediction import SCORED_AT_ONCE, TokenPrediction, perplexity
from micro_transformer.wording import _


class LanguageModeling(TokenPrediction):
    """Base class of the tasks on running text; window: tokens of the windows that `score` cuts."""

    abstract = True
    gives = ("tokens", "running_text")

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
        return train_windows(self.tokens("train"), seed, step, batch_size, context, device)

    def score(self, model: nn.Module, split: str = "val") -> dict[str, float]:
        """loss (nats per token), ppl, bits_per_byte (bytes of the text as it was before
        tokenization).

        The split is cut into cold windows of `window` tokens; every token but the very first is
        scored once.
        """
        tokens = self.tokens(split)
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
