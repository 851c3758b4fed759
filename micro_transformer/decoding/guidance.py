"""Classifier-free guidance: a step that exaggerates what a prompt or source changes."""

from torch import Tensor

from micro_transformer.decoding.base import Step, StepOutput

# B rows of the batch, T tokens, V vocabulary size


class Guided:
    """A step with log-probabilities u + scale · (c - u): c with the condition, u without it
    (Sanchez et al., 2023, eq. 7). It takes two steps per token.

    conditional: reads the prompt and, if there is one, the source. unconditional: reads the last
    token of the prompt alone, or the whole prompt and no source (reads_prompt). A token of
    probability 0 in either stays so.
    """

    def __init__(
        self, conditional: Step, unconditional: Step, scale: float, *, reads_prompt: bool = False
    ):
        self.conditional, self.unconditional, self.scale = conditional, unconditional, scale
        self._start = 0 if reads_prompt else -1  # of the first ids that `unconditional` reads

    def __call__(self, ids: Tensor, parents: Tensor | None = None) -> StepOutput:
        """(B, T) -> logits (B, V) of the next token, and the source attention of the condition."""
        given = self.conditional(ids, parents)
        without = self.unconditional(ids[:, self._start :], parents).logits.log_softmax(-1)
        self._start = 0
        with_it = given.logits.log_softmax(-1)
        impossible = with_it.isneginf() | without.isneginf()
        logits = without + self.scale * (with_it - without)
        return StepOutput(logits.masked_fill(impossible, float("-inf")), given.source_attention)
