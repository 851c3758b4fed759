"""A password hidden in natural text: what nets of this size cannot do, shown with its chance."""

import string
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from micro_transformer.config.knobs import Count, Few, Size
from micro_transformer.data.tokenizer import UNK, Tokenizer
from micro_transformer.evals.base import EvalContext, Measure
from micro_transformer.evals.windows import reach
from micro_transformer.seeds import stream
from micro_transformer.stats.proportion import wilson
from micro_transformer.tasks.language_modeling import evaluating


class Needle(Measure):
    """A sentence with a random word is inserted into validation text and asked for later.

    A demonstration, no benchmark: nothing in a novel teaches a small net to copy a word over a
    thousand letters, so a rate at chance says nothing of its context (task recall does). Right is
    the whole word, each letter the most likely one after the right ones.
    """

    needs = "text"

    def __init__(
        self, *, sentence: str, letters: Few, texts: Count, shortest: Count, doublings: Size
    ):
        self.sentence, self.letters, self.texts = sentence, letters, texts
        self.distances = [shortest << i for i in range(doublings + 1)]

    def run(self, subject: EvalContext) -> Iterator[tuple[str, float | None]]:
        """Yields needle/chance (of a random word), then accuracy with its 95 % interval (low, high)
        and n at each distance (tokens between word and question): None and 0 past a table of
        positions or past the text, and in a text without Latin letters.
        """
        alphabet = _letters(subject.task.tokenizer)
        yield "needle/chance", len(alphabet) ** -self.letters if len(alphabet) else None
        for distance in self.distances:
            ids = self._texts(subject, alphabet, distance)
            fits = len(ids) and reach(subject, ids.shape[1]) == ids.shape[1]
            hits = _right(subject.model, ids, self.letters) if fits else 0
            n = len(ids) if fits else 0
            low, high = wilson(hits, n) if n else (None, None)
            yield f"needle/accuracy@{distance}", hits / n if n else None
            yield f"needle/low@{distance}", low
            yield f"needle/high@{distance}", high
            yield f"needle/n@{distance}", n

    def _texts(self, subject: EvalContext, alphabet: np.ndarray, distance: int) -> Tensor:
        """(texts, T): sentence and word, `distance` tokens of text, sentence and word."""
        tokens = np.asarray(subject.task.data.tokens("val")).astype(np.int64)
        if len(tokens) < distance or not len(alphabet):
            return torch.zeros(0, distance, dtype=torch.int64)
        draw = np.random.default_rng(stream(0, "needle", distance))
        said = subject.task.tokenizer.encode(self.sentence)
        starts = np.linspace(0, len(tokens) - distance, self.texts).astype(int)
        words = draw.choice(alphabet, (self.texts, self.letters))
        rows = [
            np.concatenate((said, word, tokens[start : start + distance], said, word))
            for start, word in zip(starts, words, strict=True)
        ]
        return torch.from_numpy(np.stack(rows))


def _letters(tokenizer: Tokenizer) -> np.ndarray:
    """Ids of the lower-case letters that the tokenizer knows, one token each."""
    ids = [tokenizer.encode(letter) for letter in string.ascii_lowercase]
    return np.array([int(i[0]) for i in ids if len(i) == 1 and i[0] != UNK])


def _right(model: torch.nn.Module, ids: Tensor, letters: int) -> int:
    """Number of rows whose last tokens are all predicted, one text at a time."""
    device = next(model.parameters()).device
    hits = 0
    with evaluating(model), torch.autocast(device.type, enabled=False):
        for row in ids.to(device):
            hidden = model.hidden(row[None, :-1])[0, -letters:]  # type: ignore[operator]
            best = model.logits(hidden).argmax(-1)  # type: ignore[operator]
            hits += bool((best == row[-letters:]).all())
    return hits
