"""Tasks on single sentences, each after BOS."""

from typing import Any

import numpy as np
from torch import Tensor

from micro_transformer.data.tokenizer import BOS, PAD
from micro_transformer.tasks.bucketed import BucketedTask


class SentenceTask(BucketedTask):
    """Base class of tasks with a prepared column `text`: a row is read as BOS and its tokens."""

    abstract = True
    gives: tuple[str, ...] = ("sentences",)

    def lengths(self, split: str) -> np.ndarray:
        return 1 + np.diff(self.data.ends(split), prepend=0)

    def num_tokens(self, batch: Any) -> Tensor:
        return (batch.ids != PAD).sum()

    def sentence(self, split: str, row: int) -> np.ndarray:
        """(T,) ids of a sentence, BOS included."""
        return np.r_[BOS, np.asarray(self.data.row(split, row)).astype(np.int64)]
