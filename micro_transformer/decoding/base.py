"""What a decoding strategy drives, and the loop that strategies without a search share."""

from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

PAD = 0  # never a real token

# B rows, T tokens so far, V vocabulary


class StepOutput(NamedTuple):
    """What a step says about the next token."""

    logits: Tensor  # (B, V)
    source_attention: Tensor | None = None  # (B, S): how much each source token was looked at


class Step(Protocol):
    """A model as a strategy sees it."""

    def __call__(self, ids: Tensor, parents: Tensor | None = None) -> StepOutput:
        """Rows go on with ids (B, T): the prompt in the first call, one token each then.

        parents (B,): the row of the call before that each row goes on from; fewer rows are the
        ones left.
        """
        ...


class Strategy(Protocol):
    """Makes a text out of a step."""

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
    """The prompt and what choose (ids (B, T), logits (B, V)) -> (B,) adds, one token at a time."""
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
    """The logits; ValueError where a row has no best token: all are -inf, or one is inf or NaN."""
    if not bool(logits.amax(-1).isfinite().all()):
        raise ValueError(
            "logits: not a number, infinite, or no token allowed; the net's weights are damaged or "
            "its training went astray: look at its loss, and train with a lower rate"
        )
    return logits
