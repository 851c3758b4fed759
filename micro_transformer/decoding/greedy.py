"""Greedy decoding."""

from torch import Tensor

from micro_transformer.decoding.base import Draws, Step, Strategy, extend


class Greedy(Strategy):
    """The most probable token at every step; in a tie, the lowest id."""

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
        return extend(
            step, prompt, max_new_tokens, lambda rows, ids, logits: logits.argmax(-1), eos
        )
