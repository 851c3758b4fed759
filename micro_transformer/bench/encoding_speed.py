"""Bench: how many sentences an encoder reads in a second."""

import statistics
from collections.abc import Iterator

from micro_transformer.bench import timing
from micro_transformer.config.knobs import Count, Size
from micro_transformer.evals.base import EvalContext, Measure
from micro_transformer.seeds import stream
from micro_transformer.tasks.base import evaluating


class EncodingSpeed(Measure):
    """Forward passes over batches of the training split, of at most batch_size x context tokens
    each, in evaluation mode; sentences of a batch are of similar length."""

    needs = ("sentences",)
    excerpt = "context"
    excerpt_of = "train"

    def __init__(self, *, batch_size: Count, context: Count, batches: Count, warmup: Size):
        self.batch_size, self.context = batch_size, context
        self.batches, self.warmup = batches, warmup

    def run(self, subject: EvalContext) -> Iterator[tuple[str, float | None]]:
        """Yields encode/sentences_per_s and encode/tokens_per_s (pads not counted) over all
        batches, and encode/ms_per_batch, the median, with its interquartile range."""
        task, size = subject.task, (self.batch_size, self.context)
        drawn = [
            task.train_batch(stream(subject.seed, "data"), step, *size, subject.device)
            for step in range(self.batches)
        ]
        turns = iter([*drawn[:1] * self.warmup, *drawn])
        with evaluating(subject.model):
            times = timing.seconds(
                lambda: subject.model(next(turns).ids),
                subject.device,
                repeats=self.batches,
                warmup=self.warmup,
            )
        yield "encode/sentences_per_s", sum(len(batch.ids) for batch in drawn) / sum(times)
        yield "encode/tokens_per_s", sum(int(task.num_tokens(b)) for b in drawn) / sum(times)
        yield "encode/ms_per_batch", 1e3 * statistics.median(times)
        yield "encode/ms_per_batch/spread", timing.scaled(1e3, timing.spread(times))
