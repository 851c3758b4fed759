"""What one training step costs."""

import statistics
from collections.abc import Callable, Iterator
from typing import Any

import torch

from micro_transformer.bench import timing
from micro_transformer.config.knobs import Count, Size
from micro_transformer.evals.base import EvalContext, Measure
from micro_transformer.nn.arch.decoder import auxiliary_loss
from micro_transformer.seeds import stream
from micro_transformer.training.optimizers import Optimizers


class TrainingStep(Measure):
    """Batch, forward, backward, clip and optimizers of a fresh net, as the recipe trains."""

    excerpt = "context"
    excerpt_of = "train"

    def __init__(self, *, batch_size: Count, context: Count, steps: Count, warmup: Size):
        self.batch_size, self.context = batch_size, context
        self.steps, self.warmup = steps, warmup

    def run(self, subject: EvalContext) -> Iterator[tuple[str, float | None]]:
        """Yields train/ms_per_batch, the median, and its interquartile range."""
        step = stepper(subject, self.batch_size, self.context)
        times = timing.seconds(step, subject.device, repeats=self.steps, warmup=self.warmup)
        yield "train/ms_per_batch", 1e3 * statistics.median(times)
        yield "train/ms_per_batch/spread", timing.scaled(1e3, timing.spread(times))


def stepper(subject: EvalContext, batch_size: int, context: int) -> Callable[[], None]:
    """A function that trains a fresh net by one more step each time it is called."""
    recipe, device = subject.recipe, subject.device
    model = subject.new_model().train()
    forward: Any = torch.compile(model) if recipe.compile else model
    optimizers = Optimizers(model, recipe, device)
    done = iter(range(1 << 62))

    def step() -> None:
        number = next(done)
        optimizers.set_rate(number)
        batch = subject.task.train_batch(
            seed=stream(subject.seed, "data"),
            step=number,
            batch_size=batch_size,
            context=context,
            device=device,
        )
        with optimizers.autocast():
            loss = subject.task.loss(forward, batch, recipe.label_smoothing)
            loss = loss + auxiliary_loss(model)
        optimizers.backward(loss)
        optimizers.update()

    return step
