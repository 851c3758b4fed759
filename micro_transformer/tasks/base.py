"""What a task is to the trainer and the evaluators: batches, a loss, a score over a whole split."""

from typing import Any

import torch
from torch import Tensor, nn

from micro_transformer.data.tokenizer import PAD, Tokenizer


class Task:
    """Base of all tasks; `corpus` names the prepared data in `micro_transformer/data/corpora`, None
    for a task that draws its own.
    """

    corpus: str | None
    splits = "train val test"  # what its data are split into
    watch = "val/loss"  # what early stopping looks at

    def __init__(self, data: Any) -> None:
        self.data = data

    @property
    def tokenizer(self) -> Tokenizer:
        """Text to ids and back."""
        return self.data.tokenizer

    @property
    def vocab_size(self) -> int:
        """Ids are 0 .. vocab_size - 1; 0 is padding."""
        return self.tokenizer.vocab_size

    @property
    def data_record(self) -> dict[str, Any]:
        """tier, sha256 and rows of the data, for the record."""
        return self.data.record

    @property
    def train_tokens(self) -> float:
        """Tokens of the training split: an epoch, as the curves count it; inf for endless draws."""
        return sum(c["tokens"] for c in self.data.splits["train"]["columns"].values())

    def train_batch(
        self,
        seed: int,
        step: int,
        batch_size: int,
        context: int,
        device: torch.device | str = "cpu",
    ) -> Any:
        """The batch of a step: a pure function of these arguments and the data."""
        raise NotImplementedError

    def loss(self, model: nn.Module, batch: Any, label_smoothing: float = 0.0) -> Tensor:
        """The training loss, a scalar: mean over the targets that are not padding, 0 when there are
        none.
        """
        raise NotImplementedError

    def num_scored(self, batch: Any) -> int:
        """How many targets `loss` is a mean over: those that are not PAD."""
        return int((batch.targets != PAD).sum())

    def score(self, model: nn.Module, split: str = "val") -> dict[str, float]:
        """Metrics over the whole split, the same for every model, seed and batch size; unsmoothed,
        in evaluation mode.
        """
        raise NotImplementedError
