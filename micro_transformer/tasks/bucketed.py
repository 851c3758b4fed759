"""Tasks whose rows are sentences, or pairs of them: batches of similar length."""

from functools import lru_cache
from typing import Any

import numpy as np
import torch

from micro_transformer.data.length_buckets import TokenBuckets
from micro_transformer.tasks.base import Task
from micro_transformer.tasks.token_prediction import SCORED_AT_ONCE


class BucketedTask(Task):
    """Base class of tasks on rows of unequal length.

    A training batch has rows of similar length, at most batch_size x context tokens with pads, BOS
    and EOS: so steps cost about the same, whatever the length.
    """

    abstract = True

    @property
    def train_tokens(self) -> float:
        """Tokens of an epoch as `num_tokens` counts them, the BOS of each row included."""
        return super().train_tokens + self.data.splits["train"]["rows"]

    def train_batch(
        self,
        seed: int,
        step: int,
        batch_size: int,
        context: int,
        device: torch.device | str = "cpu",
    ) -> Any:
        rows = self._buckets("train").rows(seed, step, batch_size * context)
        return self.batch_of(rows, seed, step, device)

    def batch_of(self, rows: np.ndarray, seed: int, step: int, device: torch.device | str) -> Any:
        """The training batch of these rows."""
        raise NotImplementedError

    def lengths(self, split: str) -> np.ndarray:
        """(N,) tokens of each row as a batch has it, BOS or EOS included."""
        raise NotImplementedError

    def in_order(self, split: str) -> list[np.ndarray]:
        """Every row of a split once, sorted by length, in batches of about SCORED_AT_ONCE tokens,
        pads included."""
        buckets = self._buckets(split)
        order = np.argsort(buckets.lengths, kind="stable")
        return np.split(order, buckets.cuts(SCORED_AT_ONCE)[1:-1])

    @lru_cache(maxsize=4)  # noqa: B019  (a run opens one task and keeps it)
    def _buckets(self, split: str) -> TokenBuckets:
        return TokenBuckets(self.lengths(split))
