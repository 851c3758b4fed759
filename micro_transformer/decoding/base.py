"""Interfaces of decoding, and the token loop shared by strategies without search."""

from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from micro_transformer.wording import _

PAD = 0  # id of padding, never a real token

# B rows of the batch, T tokens so far, n new tokens, S source tokens, V vocabulary size


class StepOutput(NamedTuple):
    """Output of one decoding step."""

    logits: Tensor  # (B, V), of the next token
    source_attention: Tensor | None = None  # (B, S) weights of an encoder-decoder


class Step(Protocol):
    """One decoding step: a model with its cache, as called by a strategy."""

    def __call__(self, ids: Tensor, parents: Tensor | None = None) -> StepOutput:
        """Appends ids (B, T) to the rows: the prompt in the first call, then one token per row.

        parents (B,): index of the row in the previous call that each row continues; rows may be
        fewer than there. None: the same rows.
        """
        ...


class Strategy(Protocol):
    """A decoding strategy: generates tokens by calling a step."""

    def __call__(
        self,
        step: Step,
        prompt: Tensor,
        max_new_tokens: int,
        *,
        generator: torch.Generator | None = None,
        eos: int | None = None,
    ) -> Tensor:
        """(B, T) -> (B, T + n), n <= max_new_tokens; rows are filled with PAD after eos."""
        ...


def extend(
    step: Step,
    prompt: Tensor,
    max_new_tokens: int,
    choose: Callable[[Tensor, Tensor], Tensor],
    eos: int | None = None,
) -> Tensor:
    """(B, T + n): the prompt (B, T), then tokens choose(ids (B, T), logits (B, V)) -> (B,)."""
    batch, length = prompt.shape
    out = torch.full((batch, length + max_new_tokens), PAD, dtype=prompt.dtype).to(prompt.device)
    out[:, :length] = prompt
    done = torch.zeros(batch, dtype=torch.bool, device=prompt.device)
    new = prompt
    for end in range(length, length + max_new_tokens):
        token = choose(out[:, :end], _drawable(step(new).logits))
        if eos is not None:
            token = token.masked_fill(done, PAD)
            done |= token == eos
        out[:, end] = token
        if eos is not None and bool(done.all()):
            return out[:, : end + 1]
        new = token[:, None]
    return out


def _drawable(logits: Tensor) -> Tensor:
    """The logits, unchanged. Error: ValueError if a row is all -inf or contains +inf or NaN."""
    if not bool(logits.amax(-1).isfinite().all()):
        raise ValueError(
            _(
                "logits: not a number, infinite, or no token allowed; the "
                "net's weights are damaged or its training went astray: look "
                "at its loss, and train with a lower rate"
            )
        )
    return logits
