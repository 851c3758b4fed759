"""Recall over the distance between a pair and its query."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from micro_transformer.config.knobs import Count, Size
from micro_transformer.evals.base import EvalContext, Measure
from micro_transformer.evals.windows import reach
from micro_transformer.stats.proportion import wilson
from micro_transformer.tasks.recall import answers


class RecallAtDistance(Measure):
    """Accuracy by distance: position of the query minus position of its key, in tokens.

    Distances are `shortest`, twice that, and so on, `doublings` times. Each has sequences of its
    own, as long as it needs, all pairs in front and `queries` asked for behind; the same for every
    model, of a stream that no training draws from. The interval takes answers as independent,
    though those of one sequence share their pairs. What an arm that does not recall at the trained
    length does further away says nothing.
    """

    needs = "pairs"

    def __init__(self, *, shortest: Count, doublings: Size, sequences: Count, queries: Count):
        self.distances = [shortest << i for i in range(doublings + 1)]
        self.sequences, self.queries = sequences, queries

    def run(self, subject: EvalContext) -> Iterator[tuple[str, float | None]]:
        """Yields recall/trained_length, chance (any of the values present) and majority (always
        the most frequent answer of all), then accuracy, its 95 % interval (low, high) and n at each
        distance: None and 0 past a table of positions.
        """
        task: Any = subject.task
        trained = task.fixed("test", subject.recipe.context)
        yield "recall/trained_length", float(answers(subject.model, trained)[1].double().mean())
        asked = {d: task.at_distance(d, self.sequences, self.queries) for d in self.distances}
        counts = Counter(int(t) for a in asked.values() for t in a.answers())
        yield "recall/chance", 1 / task.symbols.pairs
        yield "recall/majority", max(counts.values(), default=0) / max(1, counts.total())
        for distance, sequences in asked.items():
            hits, n = 0, 0
            length = sequences.ids.shape[1]
            if len(sequences.answers()) and reach(subject, length) == length:
                right = answers(subject.model, sequences)[1]
                hits, n = int(right.sum()), len(right)
            low, high = wilson(hits, n) if n else (None, None)
            yield f"recall/accuracy@{distance}", hits / n if n else None
            yield f"recall/low@{distance}", low
            yield f"recall/high@{distance}", high
            yield f"recall/n@{distance}", n
