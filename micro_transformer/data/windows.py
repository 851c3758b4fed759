"""Batches of language modelling: the windows of a step are a function of (seed, step), without
state.

An epoch cuts the token stream into windows of `context` inputs, from its own offset, and visits
them in its own order; both follow from (seed, epoch). So a batch depends only on (seed, step,
batch_size, context) and the data: nothing to save, no worker to wait for, and a resumed run sees
the same batches.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from micro_transformer.wording import _

# the stream of random numbers that orders data; initial weights and dropout draw others
ORDER = 0x0DDE5


class Windows(NamedTuple):
    """Inputs and their next tokens, (B, T) int64 each."""

    ids: Tensor
    targets: Tensor


def train_windows(
    tokens: np.ndarray,
    seed: int,
    step: int,
    batch_size: int,
    context: int,
    device: torch.device | str = "cpu",
) -> Windows:
    """The batch of a step. An epoch has every window once. Raises ValueError if the stream is
    shorter than a window."""
    starts = window_starts(len(tokens), seed, step, batch_size, context)
    return _windows(tokens, starts, context, device)


def window_starts(length: int, seed: int, step: int, batch_size: int, context: int) -> np.ndarray:
    """Start indices of the windows of a step in a stream of `length` tokens, (B,)."""
    per_epoch = (length - 1) // context - 1  # one less, so that every offset gives as many
    if per_epoch < 1:
        if length <= context:
            raise ValueError(
                _(
                    "train.context={context}: the train split has only {length} tokens; shorten it",
                    context=context,
                    length=length,
                )
            )
        per_epoch = 1
    room = length - 1 - per_epoch * context  # largest offset: tokens not covered by windows
    indices = np.arange(step * batch_size, (step + 1) * batch_size)
    starts = np.empty(batch_size, np.int64)
    for epoch in np.unique(indices // per_epoch):
        here = indices // per_epoch == epoch
        offset, order = _epoch(seed, int(epoch), per_epoch, room)
        starts[here] = offset + order[indices[here] % per_epoch] * context
    return starts


@lru_cache(maxsize=8)
def _epoch(seed: int, epoch: int, windows: int, room: int) -> tuple[int, np.ndarray]:
    """Offset and order of the windows of an epoch."""
    draw = np.random.default_rng((ORDER, seed, epoch))
    return int(draw.integers(room + 1)), draw.permutation(windows)


def fixed_windows(
    tokens: np.ndarray, window: int, batch_size: int, device: torch.device | str
) -> list[Windows]:
    """The whole stream in order, cut every `window` tokens: each token but the first is a target
    exactly once.

    Windows have no context from before their first token; the last is shorter and in its own
    batch.
    """
    full = (len(tokens) - 1) // window
    starts = np.arange(full) * window
    batches = [
        _windows(tokens, starts[i : i + batch_size], window, device)
        for i in range(0, full, batch_size)
    ]
    rest = len(tokens) - 1 - full * window
    if rest:
        batches.append(_windows(tokens, np.array([full * window]), rest, device))
    return batches


def _windows(
    tokens: np.ndarray, starts: np.ndarray, context: int, device: torch.device | str
) -> Windows:
    block = tokens[starts[:, None] + np.arange(context + 1)].astype(np.int64)
    both = torch.from_numpy(block).to(device)
    return Windows(both[:, :-1], both[:, 1:])
