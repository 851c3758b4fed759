"""Text on the screen while it is written."""

from typing import TextIO

from torch import Tensor

from micro_transformer.data.tokenizer import Tokenizer
from micro_transformer.decoding.base import Step, StepOutput

BROKEN = "\ufffd"  # of a character whose bytes are not all there yet


class Streamed:
    """Prints each token of one text as the next is asked for; a search, which may still change its
    mind and keeps several rows, prints nothing until its end."""

    def __init__(self, tokenizer: Tokenizer, out: TextIO):
        self.tokenizer, self.out = tokenizer, out
        self._ids: list[int] = []
        self._printed = 0
        self._follows = True

    def watch(self, step: Step) -> Step:
        """The step, observed: its first call is the prompt, later ones a token per row."""
        calls = 0

        def watched(ids: Tensor, parents: Tensor | None = None) -> StepOutput:
            nonlocal calls
            calls += 1
            self._follows &= len(ids) == 1
            if calls > 1 and self._follows:
                self._ids += ids[0].tolist()
                text = self.tokenizer.decode(self._ids)
                self._print(text[: len(text) - text.endswith(BROKEN)])
            return step(ids, parents)

        return watched

    def end(self, text: str) -> None:
        """Prints what is left of the whole text, and a line break."""
        self._print(text)
        self.out.write("\n")
        self.out.flush()

    def _print(self, text: str) -> None:
        self.out.write(text[self._printed :])
        self.out.flush()
        self._printed = max(self._printed, len(text))
