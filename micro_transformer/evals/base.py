"""What an evaluator or a bench is given: a trained model with all that is chosen around it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from micro_transformer.tasks.base import Task


@dataclass(frozen=True)
class EvalContext:
    """One trained model under one choice of kernel, cache and decoding."""

    model: Any  # a net of nn/models.py, in evaluation mode
    task: Task
    config: dict[str, Any]  # resolved; a measure reads only seed and train.* of it
    strategy: Any  # drives a step, see decoding
    make_cache: Callable[..., Any]
    new_model: Callable[[], Any]  # the same net, fresh, with the kernel of training
    folder: Path  # where samples and traces go
    device: str
    seed: int


class Measure:
    """An evaluator or a bench. `needs`: what a task must give; `excerpt`: the knob that says how
    many tokens of a split it takes, and `excerpt_of` which split."""

    needs: str | None = None
    excerpt: str | None = None
    excerpt_of: str | None = None

    def run(self, subject: EvalContext) -> Iterator[tuple[str, float | None]]:
        """(name, value) of each figure; None: it could not be measured."""
        raise NotImplementedError
