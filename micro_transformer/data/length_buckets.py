"""Batches of sentences of similar length, padded; their order is a function of (seed, step)."""

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from micro_transformer.data.tokenizer import PAD
from micro_transformer.data.windows import ORDER
from micro_transformer.wording import _

Place = Callable[[int, int], slice]  # length, width -> index of the row
POOL = 50  # batches among which rows are sorted by length; more: less padding, less random


class Buckets:
    """One epoch's rows in batches, each row once; the last batch of an epoch may be smaller."""

    def __init__(self, lengths: Sequence[int] | np.ndarray) -> None:
        if not len(lengths):
            raise ValueError(_("a split without rows has no batches; prepare the data again"))
        self.lengths = np.asarray(lengths)
        self._epoch = lru_cache(maxsize=4)(self._order)

    def rows(self, seed: int, step: int, batch_size: int) -> np.ndarray:
        """Row indices of a step's batch, (B,)."""
        per_epoch = -(-len(self.lengths) // batch_size)
        return self._epoch(seed, step // per_epoch, batch_size)[step % per_epoch]

    def _order(self, seed: int, epoch: int, batch_size: int) -> list[np.ndarray]:
        draw = np.random.default_rng((ORDER, seed, epoch))
        order = draw.permutation(len(self.lengths))
        batches: list[np.ndarray] = []
        for start in range(0, len(order), POOL * batch_size):
            pool = order[start : start + POOL * batch_size]
            pool = pool[np.argsort(self.lengths[pool], kind="stable")]
            batches += [pool[i : i + batch_size] for i in range(0, len(pool), batch_size)]
        return [batches[i] for i in draw.permutation(len(batches))]


class TokenBuckets:
    """One epoch's rows in batches of similar cost, each row once.

    Rows are sorted by length, those of equal length shuffled, and cut where the number of rows
    times the longest would pass `max_tokens`; then the batches are shuffled. A longer row is a
    batch of its own. The cuts depend on the lengths alone, so every epoch has as many batches.
    Within a batch lengths are as equal as they can be; `Buckets` mixes them more.
    """

    def __init__(self, lengths: Sequence[int] | np.ndarray) -> None:
        if not len(lengths):
            raise ValueError(_("a split without rows has no batches; prepare the data again"))
        self.lengths = np.asarray(lengths)
        self.cuts = lru_cache(maxsize=4)(self._cuts)
        self._epoch = lru_cache(maxsize=4)(self._order)

    def rows(self, seed: int, step: int, max_tokens: int) -> np.ndarray:
        """Row indices of a step's batch, (B,)."""
        cuts = self.cuts(max_tokens)
        epoch, number = divmod(step, len(cuts) - 1)
        order, batches = self._epoch(seed, epoch, max_tokens)
        batch = batches[number]
        return order[cuts[batch] : cuts[batch + 1]]

    def _cuts(self, max_tokens: int) -> list[int]:
        """Borders of the batches among the rows sorted by length: 0, ..., the number of rows."""
        lengths = np.sort(self.lengths)
        cuts = [0]
        for end, longest in enumerate(lengths):
            if end > cuts[-1] and (end + 1 - cuts[-1]) * longest > max_tokens:
                cuts.append(end)
        return [*cuts, len(lengths)]

    def _order(self, seed: int, epoch: int, max_tokens: int) -> tuple[np.ndarray, np.ndarray]:
        """The rows of an epoch sorted by length, and the order of its batches."""
        draw = np.random.default_rng((ORDER, seed, epoch))
        order = draw.permutation(len(self.lengths))
        order = order[np.argsort(self.lengths[order], kind="stable")]
        return order, draw.permutation(len(self.cuts(max_tokens)) - 1)


def pad_right(rows: Sequence[np.ndarray], device: torch.device | str = "cpu") -> Tensor:
    """Rows of ids -> (B, T) int64, with PAD after the end of each row."""
    return _pad(rows, device, lambda length, width: slice(0, length))


def pad_left(rows: Sequence[np.ndarray], device: torch.device | str = "cpu") -> Tensor:
    """Rows of ids -> (B, T) int64, with PAD before the start of each row, so that all rows end
    at the same index, as generation needs."""
    return _pad(rows, device, lambda length, width: slice(width - length, width))


def positions(ids: Tensor) -> Tensor:
    """(B, T) ids -> (B, T) positions: 0, 1, ... over the tokens of each row, -1 at PAD on either
    side."""
    real = ids != PAD
    return torch.where(real, real.cumsum(1) - 1, -1)


def _pad(rows: Sequence[np.ndarray], device: torch.device | str, place: Place) -> Tensor:
    width = max(map(len, rows))
    block = np.full((len(rows), width), PAD, np.int64)
    for line, row in zip(block, rows, strict=True):
        line[place(len(row), width)] = row
    return torch.from_numpy(block).to(device)
