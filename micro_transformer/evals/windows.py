"""Long windows of running text, and what a model says of their tokens."""

import logging
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from micro_transformer.data.windows import Windows
from micro_transformer.evals.base import EvalContext
from micro_transformer.tasks.language_modeling import SCORED_AT_ONCE, evaluating
from micro_transformer.wording import _

log = logging.getLogger(__name__)
LOGITS_AT_ONCE = 1024  # tokens whose logits exist at the same time: never all those of a window


def spread(tokens: np.ndarray, window: int, most: int) -> Windows:
    """At most `most` windows of `window` inputs, evenly over the tokens, (N, T) each; N may be 0.

    They stand on a grid of step `window`, so that no token is a target twice; what the grid leaves
    over is not scored.
    """
    possible = (len(tokens) - 1) // window
    num = min(most, possible)
    starts = np.linspace(0, max(0, possible - 1), num).round().astype(int) * window
    if not num:
        log.warning(_("no window of %d tokens in a text of %d: n/a"), window, len(tokens))
    block = tokens[starts[:, None] + np.arange(window + 1)].astype(np.int64)
    return Windows(torch.from_numpy(block[:, :-1]), torch.from_numpy(block[:, 1:]))


def excerpts(tokens: np.ndarray, length: int, num: int, knob: str) -> Tensor:
    """(num, length) ids from positions spread evenly over the tokens; ValueError names the knob
    if there are fewer than `length` tokens."""
    if length > len(tokens):
        raise ValueError(
            _(
                "{knob}={length}: the text has only {tokens} tokens; lower it",
                knob=knob,
                length=length,
                tokens=len(tokens),
            )
        )
    starts = np.linspace(0, len(tokens) - length, num).astype(int)
    return torch.from_numpy(np.stack([tokens[s : s + length] for s in starts])).long()


def reach(subject: EvalContext, length: int) -> int:
    """How many of `length` tokens have a position that was trained; the log tells of a table whose
    trained part ends before."""
    posenc = subject.model.posenc
    if not posenc.trained_table:
        return length
    limit = min(posenc.max_len, subject.recipe.context)
    if limit >= length:
        return length
    log.warning(_("positions are a table trained to %d of %d tokens: n/a beyond"), limit, length)
    return limit


def token_nll(model: Any, ids: Tensor, targets: Tensor) -> Tensor:
    """(N, T), (N, K) -> (N, K) float64: -log p of targets, which follow the last K of the inputs.

    One forward over all T; logits are formed for LOGITS_AT_ONCE tokens at a time.
    """
    device = next(model.parameters()).device
    at_once = max(1, SCORED_AT_ONCE // ids.shape[1])
    found = []
    with evaluating(model), torch.autocast(device.type, enabled=False):
        for rows, wanted in zip(ids.split(at_once), targets.split(at_once), strict=True):
            hidden = model.hidden(rows.to(device))[:, -wanted.shape[1] :].flatten(0, 1)
            parts = zip(
                hidden.split(LOGITS_AT_ONCE),
                wanted.to(device).flatten().split(LOGITS_AT_ONCE),
                strict=True,
            )
            nll = [F.cross_entropy(model.logits(h).float(), w, reduction="none") for h, w in parts]
            found.append(torch.cat(nll).view(wanted.shape))
    return torch.cat(found).double()
