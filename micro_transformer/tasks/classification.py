"""Classification of sentences: the class of each, scored by what is right and how sure it was."""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from micro_transformer.data.length_buckets import pad_right
from micro_transformer.stats import classification as stats
from micro_transformer.tasks.base import Quality, evaluating
from micro_transformer.tasks.sentence_task import SentenceTask

# B, N sentences, T tokens, C classes


class Labelled(NamedTuple):
    """Sentences (B, T), padded on the right with PAD, and the class of each, (B,)."""

    ids: Tensor
    labels: Tensor


class Classification(SentenceTask):
    """Base class of tasks with the prepared columns `text` and `label`, numbers of `classes`. The
    model is called as model(ids) -> logits (B, C)."""

    abstract = True
    gives = ("sentences", "labels")
    quality = Quality("val/accuracy", lower_is_better=False)

    @property
    def num_outputs(self) -> int:
        """Classes."""
        return len(self.classes)

    def batch_of(
        self, rows: np.ndarray, seed: int, step: int, device: torch.device | str
    ) -> Labelled:
        return self._batch("train", rows, device)

    def num_scored(self, batch: Labelled) -> int:
        return len(batch.labels)

    def loss(self, model: nn.Module, batch: Labelled, label_smoothing: float = 0.0) -> Tensor:
        logits = model(batch.ids).float()
        return F.cross_entropy(logits, batch.labels, label_smoothing=label_smoothing)

    def labels(self, split: str) -> np.ndarray:
        """(N,) the class of each row of a split."""
        return np.asarray(self.data.numbers(split, "label"))

    def probabilities(self, model: nn.Module, split: str) -> np.ndarray:
        """(N, C) float64, the model's probability of each class for each row of a split."""
        device = next(model.parameters()).device
        found = np.zeros((self.data.splits[split]["rows"], self.num_outputs))
        with evaluating(model), torch.autocast(device.type, enabled=False):
            for rows in self.in_order(split):
                logits = model(self._batch(split, rows, device).ids)
                found[rows] = logits.double().softmax(-1).cpu().numpy()
        return found

    def score(self, model: nn.Module, split: str = "val") -> dict[str, float]:
        """loss (nats per sentence), accuracy, f1_macro and ece (see stats/classification.py)."""
        return stats.scores(self.labels(split), self.probabilities(model, split))

    def sentences(self, split: str, rows: range) -> list[str]:
        """The text of some rows."""
        return [self.tokenizer.decode(self.data.row(split, row).tolist()) for row in rows]

    def _batch(self, split: str, rows: np.ndarray, device: torch.device | str) -> Labelled:
        return Labelled(
            pad_right([self.sentence(split, int(row)) for row in rows], device),
            torch.from_numpy(self.labels(split)[rows]).to(device),
        )
