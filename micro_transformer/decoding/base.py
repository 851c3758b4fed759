"""Interfaces of decoding, and the token loop shared by strategies without search."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from micro_transformer.seeds import stream
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

        parents (B,): index of the row in the previous call that each row continues; there may be
        fewer rows than there, or more. None: the same rows.
        """
        ...


@dataclass(frozen=True)
class Draws:
    """Random numbers that follow from (seed, number of the row, step) and nothing else, so that a
    row is generated as it would be alone. rows: the number of each row of the prompt."""

    seed: int
    rows: Sequence[int]

    def uniform(self, steps: int) -> Tensor:
        """(B, steps) multiples of 2^-52 in [0, 1), float64, on the CPU."""
        draws = torch.empty(len(self.rows), steps, dtype=torch.int64)
        for row, number in zip(draws, self.rows, strict=True):
            own = torch.Generator().manual_seed(stream(self.seed, "row", number))
            row.random_(1 << 52, generator=own)
        return draws.double() / (1 << 52)


class Hypothesis(NamedTuple):
    """A finished text: its new tokens (n,), eos included, and its score."""

    ids: Tensor
    score: float


class Strategy(Protocol):
    """A decoding strategy: generates tokens by calling a step."""

    deterministic: bool = False  # True: the text does not depend on the seed
    searches: bool = False  # True: it is a `Search`
    reads_source: bool = False  # True: the step must give the attention on the source
    up_to_vocabulary: tuple[str, ...] = ()  # knobs that count tokens; more than all are all
    guidance_scale: float = 1.0  # of the step's logits, see `Guided`; 1: none

    def __call__(
        self,
        step: Step,
        prompt: Tensor,
        max_new_tokens: int,
        *,
        draws: Draws,
        eos: int | None = None,
    ) -> Tensor:
        """(B, T) -> (B, T + n), n <= max_new_tokens; rows are filled with PAD after eos."""
        ...


class Search(Strategy, Protocol):
    """A strategy that finds several texts."""

    abstract = True  # type: ignore[misc]

    def search(
        self, step: Step, prompt: Tensor, max_new_tokens: int, eos: int | None = None
    ) -> list[list[Hypothesis]]:
        """For each row of the prompt (B, T), finished texts, best first."""
        ...


def extend(
    step: Step,
    prompt: Tensor,
    max_new_tokens: int,
    choose: Callable[[Tensor, Tensor, Tensor], Tensor],
    eos: int | None = None,
) -> Tensor:
    """(B, T + n): the prompt (B, T), then the tokens (b,) that `choose` returns for those rows that
    have not ended, the only ones that the step continues: choose(rows (b,), ids (b, T), logits
    (b, V)).
    """
    batch, length = prompt.shape
    out = torch.full((batch, length + max_new_tokens), PAD, dtype=prompt.dtype).to(prompt.device)
    out[:, :length] = prompt
    rows = torch.arange(batch, device=prompt.device)
    new, parents = prompt, None
    for end in range(length, length + max_new_tokens):
        logits = drawable(step(new, parents).logits)
        ids = out[:, :end] if len(rows) == batch else out[rows, :end]
        token, parents = choose(rows, ids, logits), None
        out[rows, end] = token
        if eos is not None and bool((token == eos).any()):
            parents = without_holes(token != eos)
            rows, token = rows[parents], token[parents]
            if not len(rows):
                return out[:, : end + 1]
        new = token[:, None]
    return out


def without_holes(kept: Tensor) -> Tensor:
    """The parents of the kept rows, a mask (b,): each keeps its place but for the last ones, which
    take those of the others, so that few rows of a cache are copied."""
    old = kept.nonzero()[:, 0]
    num = len(old)
    parents = torch.arange(num, device=kept.device)
    parents[~kept[:num]] = old[old >= num]
    return parents


def drawable(logits: Tensor) -> Tensor:
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
