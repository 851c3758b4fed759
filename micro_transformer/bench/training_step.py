"""Bench: the time of one training step."""

import dataclasses
import statistics
from collections.abc import Callable, Iterator

from micro_transformer.bench import timing
from micro_transformer.config.knobs import Count, Size
from micro_transformer.evals.base import EvalContext, Measure
from micro_transformer.training import step


class TrainingStep(Measure):
    """The trainer's optimizer step on a fresh net, with batches of the bench's size: `accumulate`
    micro-batches as in the recipe, on one rank.
    """

    excerpt = "context"
    excerpt_of = "train"

    def __init__(self, *, batch_size: Count, context: Count, steps: Count, warmup: Size):
        self.batch_size, self.context = batch_size, context
        self.steps, self.warmup = steps, warmup

    def run(self, subject: EvalContext) -> Iterator[tuple[str, float | None]]:
        """Yields train/ms_per_batch, median over steps, and its interquartile range."""
        action = stepper(subject, self.batch_size, self.context)
        times = timing.seconds(action, subject.device, repeats=self.steps, warmup=self.warmup)
        yield "train/ms_per_batch", 1e3 * statistics.median(times)
        yield "train/ms_per_batch/spread", timing.scaled(1e3, timing.spread(times))


def stepper(subject: EvalContext, batch_size: int, context: int) -> Callable[[], object]:
    """A function that trains a fresh net by one more step each time it is called."""
    recipe = dataclasses.replace(subject.recipe, batch_size=batch_size, context=context)
    train = step.TrainingStep(
        subject.new_model(), subject.task, recipe, seed=subject.seed, device=subject.device
    )
    numbers = iter(range(1 << 62))
    return lambda: train(next(numbers))
