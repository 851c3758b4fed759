"""Greedy decoding."""

from torch import Tensor

from micro_transformer.decoding.base import Draws, Step, extend
from micro_transformer.decoding.penalties import Penalised


class Greedy(Penalised):
    """The most probable token at every step, after the penalties; in a tie, the lowest id."""

    deterministic = True

    def __call__(
        self,
        step: Step,
        prompt: Tensor,
        max_new_tokens: int,
        *,
        draws: Draws,
        eos: int | None = None,
    ) -> Tensor:
        """(B, T) -> (B, T + n); nothing is drawn."""
        chain = self.penalties(prompt.shape[1])

        def choose(rows: Tensor, ids: Tensor, logits: Tensor) -> Tensor:
            for process in chain:
                logits = process(ids, logits)
            return logits.argmax(-1)

        return extend(step, prompt, max_new_tokens, choose, eos)
