"""Translations of a split under the chosen decoding, against their references."""

import json
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from micro_transformer.config.knobs import Count
from micro_transformer.data.length_buckets import pad_right
from micro_transformer.data.tokenizer import BOS, EOS, FIRST
from micro_transformer.decoding.base import Draws, StepOutput
from micro_transformer.disk import write_file
from micro_transformer.evals.base import EvalContext, Measure
from micro_transformer.seeds import stream
from micro_transformer.stats import text_diversity, translation_metrics
from micro_transformer.tasks.base import evaluating

# B sources, S source tokens, T target tokens so far, V vocabulary size

TABLE, SCORES = "translations.tsv", "translation_scores.json"
AT_ONCE = 64  # sources decoded together


class Translation(Measure):
    """BLEU, chrF++ and more of the first `num` sources of a split, which is in random order.

    translations.tsv: source, translation, references. translation_scores.json: the scores with the
    signatures of sacreBLEU, without which they compare with nothing.
    """

    needs = ("source_target",)

    def __init__(self, *, split: Literal["val", "test"] = "val", num: Count, length: Count):
        self.split, self.num, self.length = split, num, length

    def run(self, subject: EvalContext) -> Iterator[tuple[str, float | None]]:
        """Yields <split>/bleu, chrf (chrF++), exact, length_ratio, repetition, distinct_2 and n,
        the number of sources."""
        task: Any = subject.task
        pairs = task.sentences(self.split, self.num)
        sources, references = [list(column) for column in zip(*pairs, strict=True)]
        written = [one_line(text) for text in translate(subject, sources, self.length)]
        write_file(subject.folder / TABLE, _table(sources, written, references).encode())
        bleu, bleu_signature = translation_metrics.score("bleu", written, references)
        chrf, chrf_signature = translation_metrics.score("chrf", written, references)
        page = {
            "split": self.split,
            "sources": len(sources),
            "bleu": {"score": bleu, "signature": bleu_signature},
            "chrf++": {"score": chrf, "signature": chrf_signature},
        }
        write_file(subject.folder / SCORES, json.dumps(page, indent=1).encode())
        figures = {
            "bleu": bleu,
            "chrf": chrf,
            "exact": translation_metrics.exact(written, references),
            "length_ratio": translation_metrics.length_ratio(written, references),
            "repetition": text_diversity.repetition(written),
            "distinct_2": text_diversity.distinct(written, 2),
            "n": len(sources),
        }
        for name, value in figures.items():
            yield f"{self.split}/{name}", value


def translate(subject: EvalContext, sources: Sequence[str], length: int) -> list[str]:
    """One translation per source, of at most `length` tokens, in the order of the sources."""
    tokenizer, strategy = subject.task.tokenizer, subject.strategy
    ids = [tokenizer.encode(text) for text in sources]
    order = np.argsort([len(row) for row in ids], kind="stable")
    found = [""] * len(sources)
    for start in range(0, len(order), AT_ONCE):
        rows = order[start : start + AT_ONCE].tolist()
        source = pad_right([ids[row] for row in rows], subject.device)
        prompt = torch.full((len(rows), 1), BOS, device=source.device)
        draws = Draws(stream(subject.seed, "translations"), rows)
        with evaluating(subject.model):
            step = SourceStep(subject.model, source)
            out = strategy(step, prompt, length, draws=draws, eos=EOS)
        for row, line in zip(rows, out.tolist(), strict=True):
            found[row] = tokenizer.decode(line)
    return found


class SourceStep:
    """A net that reads a source, as the step of a decoding strategy; without a cache: each step
    processes all target tokens so far. Special ids but EOS get a logit of -inf."""

    def __init__(self, model: Any, source: Tensor):
        self.model, self.source = model, source
        self.ids = torch.empty(len(source), 0, dtype=torch.int64, device=source.device)

    def __call__(self, ids: Tensor, parents: Tensor | None = None) -> StepOutput:
        """(B, T) -> logits (B, V) of the next token."""
        if parents is not None:
            self.ids, self.source = self.ids[parents], self.source[parents]
        self.ids = torch.cat((self.ids, ids), 1)
        logits = self.model(self.ids, source=self.source)[:, -1].float()
        unwritten = torch.tensor([id for id in range(FIRST) if id != EOS], device=ids.device)
        return StepOutput(logits.index_fill(1, unwritten, float("-inf")))


def one_line(text: str) -> str:
    """The text in one line, without control characters, words apart by one space."""
    return " ".join("".join(c for c in text if c.isprintable() or c.isspace()).split())


def _table(sources: Sequence[str], written: Sequence[str], references: Sequence[list[str]]) -> str:
    """Tab-separated: a line per source, and a column per reference."""
    most = max(map(len, references))
    head = ["source", "translation", *(f"reference {i}" for i in range(1, most + 1))]
    lines = [
        [source, text, *of, *[""] * (most - len(of))]
        for source, text, of in zip(sources, written, references, strict=True)
    ]
    return "".join("\t".join(map(one_line, line)) + "\n" for line in [head, *lines])
