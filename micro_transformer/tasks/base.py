"""The seam between tasks and the rest: batches, a loss, counts, a score over a whole split.

A task states what it gives (`gives`), a net what it reads (`reads`), an evaluator or a bench what
it needs (`needs`), in the same words; a configuration in which one is missing is invalid.

    tokens         batches of `ids` and `targets`, (B, T) each, and `tokens(split)`
    running_text   `tokens(split)` is text in reading order, so that windows of it can be cut
    source_target  batches of `source` (B, S), `ids` and `targets` (B, T); the model is called as
                   model(ids, source=source)
    pairs          the sequences of data/recall.py, of any length or distance
    source_target  batches of `source` (B, S), `ids` (B, T) = BOS and the target, `targets` (B, T) =
                   the target and EOS, padded with PAD; `sentences(split, num)`: texts, references
    sentences      batches of `ids` (B, T), each row BOS and one sentence, padded with PAD
    labels         `labels` (B,) in a batch, numbers of `classes`
    masked_tokens  `targets` (B, T) in a batch: selected tokens, PAD elsewhere

The words are data: a new task may state a new one.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from micro_transformer.data.tokenizer import Tokenizer


class Quality(NamedTuple):
    """The metric that runs are judged by, as its key in a record, and its direction."""

    name: str
    lower_is_better: bool = True

    def is_better(self, value: float, other: float) -> bool:
        """Whether `value` is strictly better."""
        return value < other if self.lower_is_better else value > other


LOSS = Quality("val/loss")


class Task:
    """Base class of all tasks.

    corpus: name of the prepared data in `micro_transformer/data/corpora`; None for a task that
    generates its data. splits: of the data. classes: names of those that a net tells apart; none:
    it predicts tokens. quality: judges runs in the report and on the Pareto
    front.
    """

    corpus: str | None
    splits = "train val test"
    classes: tuple[str, ...] = ()
    gives: tuple[str, ...] = ()
    quality = LOSS

    def __init__(self, data: Any) -> None:
        self.data = data

    @property
    def watch(self) -> Quality:
        """Selects the best weights and stops early: `quality` if it is measured on the validation
        split, else the validation loss, since test data must not select anything."""
        return self.quality if self.quality.name.startswith("val/") else LOSS

    @property
    def tokenizer(self) -> Tokenizer:
        """Converts text to ids and back."""
        return self.data.tokenizer

    @property
    def vocab_size(self) -> int:
        """Ids are 0 .. vocab_size - 1; 0 is padding."""
        return self.tokenizer.vocab_size

    @property
    def num_outputs(self) -> int:
        """Outputs of a net's head per prediction: a language model's vocabulary, or classes."""
        return self.vocab_size

    @property
    def data_record(self) -> dict[str, Any]:
        """tier, sha256 and rows of the data, for the record."""
        return self.data.record

    @property
    def train_tokens(self) -> float:
        """Tokens of the training split, one epoch; inf if data are generated without end."""
        return sum(c["tokens"] for c in self.data.splits["train"]["columns"].values())

    def tokens(self, split: str) -> np.ndarray:
        """Ids of a whole split, (N,), of a task that gives tokens."""
        return self.data.tokens(split)

    def train_batch(
        self,
        seed: int,
        step: int,
        batch_size: int,
        context: int,
        device: torch.device | str = "cpu",
    ) -> Any:
        """The batch of a step, a named tuple of tensors whose first dimension is the row. It
        depends only on these arguments and the data."""
        raise NotImplementedError

    def num_tokens(self, batch: Any) -> int | Tensor:
        """Tokens that the net reads in a batch, without padding; a tensor () on the batch's device
        if they must be counted there, so that the caller decides when to wait for it."""
        raise NotImplementedError

    def num_scored(self, batch: Any) -> int | Tensor:
        """Number of targets that `loss` is a mean over; int or tensor as `num_tokens`."""
        raise NotImplementedError

    def loss(self, model: nn.Module, batch: Any, label_smoothing: float = 0.0) -> Tensor:
        """The training loss, a scalar: mean over `num_scored` targets, 0 if there are none."""
        raise NotImplementedError

    def score(self, model: nn.Module, split: str = "val") -> dict[str, float]:
        """Metrics over the whole split, the same for every batch size; unsmoothed, in evaluation
        mode. Includes `loss` (nats per target)."""
        raise NotImplementedError


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Context manager with the model in evaluation mode and no gradients; its mode is restored."""
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        model.train(was_training)
