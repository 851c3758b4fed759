"""Steps without a model: the next token's logits are read from a table."""

import torch
from torch import Tensor

from micro_transformer.decoding.base import Step, StepOutput


def table_step(table: Tensor) -> Step:
    """Logits table[last token] (V, V)."""

    def step(ids: Tensor, parents: Tensor | None = None) -> StepOutput:
        return StepOutput(table[ids[:, -1]])

    return step


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
