"""The input of evaluators and benches: a trained model with the choices to measure it under."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from micro_transformer.config.sections import Train
from micro_transformer.decoding.base import Strategy
from micro_transformer.nn.arch.base import Net
from micro_transformer.nn.cache.base import CacheLayer, CacheSpec
from micro_transformer.tasks.base import Task


@dataclass(frozen=True)
class EvalContext:
    """One trained model under one choice of kernel, cache and decoding."""

    model: Net  # in evaluation mode
    task: Task
    recipe: Train  # as the model was trained
    strategy: Strategy
    make_cache: Callable[[CacheSpec], CacheLayer]
    new_model: Callable[[], Net]  # with initial weights and the kernel of training
    title: str  # the choices, as a table shows them
    folder: Path  # of samples and traces
    device: str
    seed: int


class Measure:
    """Base class of evaluators and benches.

    needs: what the task must give, in the words of `Task.gives`. excerpt: the knob with the number
    of tokens that it reads from a split; excerpt_of: that split. of_experts: of a dense net it has
    few figures.
    """

    needs: tuple[str, ...] = ()
    of_experts = False
    excerpt: str | None = None
    excerpt_of: str | None = None

    def run(self, subject: EvalContext) -> Iterator[tuple[str, float | None]]:
        """Yields (name, value) of each figure; None if it could not be measured."""
        raise NotImplementedError
