"""Decoding steps without a model: logits of the next token from a table."""

from torch import Tensor

from micro_transformer.decoding.base import Draws, Step, StepOutput


def table_step(table: Tensor) -> Step:
    """A step with logits table[last token]; table (V, V), V vocabulary size."""

    def step(ids: Tensor, parents: Tensor | None = None) -> StepOutput:
        return StepOutput(table[ids[:, -1]])

    return step


def draws(seed: int = 0, rows: int = 2) -> Draws:
    """Of rows 0 to rows - 1."""
    return Draws(seed, range(rows))
