"""Decoding steps without a model: logits of the next token from a table."""

import torch
from torch import Tensor

from micro_transformer.decoding.base import Step, StepOutput


def table_step(table: Tensor) -> Step:
    """A step with logits table[last token]; table (V, V), V vocabulary size."""

    def step(ids: Tensor, parents: Tensor | None = None) -> StepOutput:
        return StepOutput(table[ids[:, -1]])

    return step


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
