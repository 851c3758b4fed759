"""The same tokens with more and more text before them."""

from collections.abc import Iterator
from typing import Literal

from micro_transformer.config.knobs import Count, Size
from micro_transformer.evals.base import EvalContext, Measure
from micro_transformer.evals.windows import reach, spread, token_nll


class LossByContext(Measure):
    """Loss of the same target tokens under growing context.

    Contexts C are `shortest`, twice that, and so on, `doublings` times; the longest is the window.
    Let K be the shortest and x_0 ... x_W the tokens of a window and the one after. The targets are
    the last K, x_(W-K+1) ... x_W, under every C; a forward reads x_(W-C) ... x_(W-1), C tokens at
    positions 0 to C-1. So a target has C-K+1 to C tokens before it, and two contexts differ in
    nothing but what stands further back. Loss that falls: more context helps. Loss that rises,
    though the nearer text is the same: the positions break.
    """

    needs = "text"

    def __init__(
        self,
        *,
        split: Literal["train", "val", "test"] = "val",
        shortest: Count = 256,
        doublings: Size = 5,
        windows: Count = 16,
    ):
        self.split, self.windows = split, windows
        self.contexts = [shortest << i for i in range(doublings + 1)]

    def run(self, subject: EvalContext) -> Iterator[tuple[str, float | None]]:
        """Yields context/loss@C (nats per token) for each C, None past a table of positions, and
        context/n, the number of targets."""
        last, window = self.contexts[0], self.contexts[-1]
        ids, targets = spread(subject.task.data.tokens(self.split), window, self.windows)
        limit = reach(subject, window) if len(ids) else 0
        for context in self.contexts:
            name = f"context/loss@{context}"
            if context > limit:
                yield name, None
            else:
                nll = token_nll(subject.model, ids[:, -context:], targets[:, -last:])
                yield name, float(nll.mean())
        yield "context/n", len(ids) * last
