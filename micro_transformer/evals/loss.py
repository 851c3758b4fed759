"""How well the model predicts a split."""

from collections.abc import Iterator
from typing import Literal

from micro_transformer.evals.base import EvalContext, Measure


class Loss(Measure):
    """All that the task scores over a whole split; of text: loss (nats per token), perplexity and
    bits per byte, on fixed windows."""

    def __init__(self, *, split: Literal["train", "val", "test"] = "val"):
        self.split = split

    def run(self, subject: EvalContext) -> Iterator[tuple[str, float | None]]:
        """Yields <split>/loss, <split>/ppl, ... : all that the task scores, never smoothed."""
        for name, value in subject.task.score(subject.model, self.split).items():
            yield f"{self.split}/{name}", value
