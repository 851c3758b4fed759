"""Recall by distance between a pair and its query."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from micro_transformer.config.knobs import Count, Size
from micro_transformer.evals.base import EvalContext, Measure
from micro_transformer.evals.windows import reach
from micro_transformer.stats.proportion import wilson


class RecallAtDistance(Measure):
    """Accuracy by distance: position of the query minus position of its key, in tokens.

    Distances are `shortest`, twice that, and so on, `doublings` times. Each has sequences of its
    own, as long as it needs, all pairs in front and `queries` asked for behind; the same for every
    model, of a stream that no training draws from. The interval takes answers as independent,
    though those of one sequence share their pairs. If a model does not recall at the trained
    length, its recall at longer distances means nothing.
    """

    needs = ("pairs",)

    def __init__(self, *, shortest: Count, doublings: Size, sequences: Count, queries: Count):
        self.distances = [shortest << i for i in range(doublings + 1)]
        self.sequences, self.queries = sequences, queries

    def run(self, subject: EvalContext) -> Iterator[tuple[str, float | None]]:
        """Yields recall/trained_length, chance (any of the values present) and majority (always
        the most frequent answer of all), then accuracy, its 95 % interval (low, high) and n at each
        distance: None and 0 beyond a learned position table.
        """
        task: Any = subject.task
        trained = task.fixed("test", subject.recipe.context)
        _, hits = task.answers(subject.model, trained)
        yield "recall/trained_length", float(hits.double().mean())
        asked = {d: task.at_distance(d, self.sequences, self.queries) for d in self.distances}
        counts = Counter(int(t) for a in asked.values() for t in a.answers())
        yield "recall/chance", 1 / task.symbols.pairs
        yield "recall/majority", max(counts.values(), default=0) / max(1, counts.total())
        for distance, sequences in asked.items():
            right, n = 0, 0
            length = sequences.ids.shape[1]
            if len(sequences.answers()) and reach(subject, length) == length:
                _, hits = task.answers(subject.model, sequences)
                right, n = int(hits.sum()), len(hits)
            low, high = wilson(right, n) if n else (None, None)
            yield f"recall/accuracy@{distance}", right / n if n else None
            yield f"recall/low@{distance}", low
            yield f"recall/high@{distance}", high
            yield f"recall/n@{distance}", n
