"""Perplexity by the number of tokens before the target."""

from collections.abc import Iterator
from typing import Literal

from micro_transformer.config.knobs import Count
from micro_transformer.evals.base import EvalContext, Measure
from micro_transformer.evals.windows import reach, spread, token_nll
from micro_transformer.tasks.language_modeling import perplexity

KILO = 1024


class PerplexityByPosition(Measure):
    """PPL by stretch of context position, in long cold windows that are the same for every model.

    A token's position is the number of tokens of the window before it, 1 to `window`; the stretch
    (a, b] holds positions a + 1 to b. A stretch has the exponential of its mean loss.
    """

    needs = "text"

    def __init__(
        self,
        *,
        split: Literal["train", "val", "test"] = "val",
        window: Count = 8192,
        edges: list[Count],
        windows: Count = 16,
    ):
        self.split, self.window, self.windows = split, window, windows
        inner = {edge for edge in edges if edge < window}
        self.edges = [0, *sorted(inner), window]

    def run(self, subject: EvalContext) -> Iterator[tuple[str, float | None]]:
        """Yields n/windows, then ppl/0-1k, n/0-1k, ...: perplexity and number of targets of each.

        A stretch without targets, or that a table of positions ends in, has None and 0.
        """
        ids, targets = spread(subject.task.data.tokens(self.split), self.window, self.windows)
        yield "n/windows", len(ids)
        limit = reach(subject, self.window) if len(ids) else 0
        nll = token_nll(subject.model, ids[:, :limit], targets[:, :limit]) if limit else None
        for low, high in zip(self.edges, self.edges[1:], strict=False):
            here = nll[:, low:high] if nll is not None and high <= limit else None
            name = f"{_short(low)}-{_short(high)}"
            yield f"ppl/{name}", None if here is None else perplexity(float(here.mean()))
            yield f"n/{name}", 0 if here is None else here.numel()


def _short(tokens: int) -> str:
    """4096 -> 4k."""
    return f"{tokens // KILO}k" if tokens and tokens % KILO == 0 else str(tokens)
