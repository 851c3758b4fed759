"""Scores and labels of the attention heads, with an untrained net as control."""

import json
import string
from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from micro_transformer.config.knobs import Count, Several
from micro_transformer.data.tokenizer import FIRST
from micro_transformer.evals import probes
from micro_transformer.evals.base import EvalContext, Measure
from micro_transformer.evals.windows import excerpts
from micro_transformer.seeds import stream
from micro_transformer.store.checkpoints import write_file

BINS = 20  # of the histogram of attention weights, over [0, 1]


class Heads(Measure):
    """Scores and labels of every head, and figures of their maps in attention.json."""

    needs = ("tokens",)
    excerpt = "context"
    excerpt_of = "val"

    def __init__(self, *, num: Count, context: Several, map_len: Count):
        self.num, self.context, self.map_len = num, context, map_len

    def run(self, subject: EvalContext) -> Iterator[tuple[str, float | None]]:
        """Yields the mean entropy of each layer and the number of heads with each label."""
        text, marks = self._text(subject)
        random = self._random(subject)
        scores = probes.head_scores(subject.model, text, marks, random)
        control = probes.head_scores(subject.new_model(), text, marks, random)
        limits = probes.highest(control)
        labels = [
            [probes.label(dict(zip(layer, head, strict=True)), limits) for head in _heads(layer)]
            for layer in scores
        ]
        found = {
            "context": self.context,
            "thresholds": probes.THRESHOLDS,
            "scores": scores,
            "control": control,
            "labels": labels,
            **self._figures(subject, text),
        }
        write_file(subject.folder / "attention.json", json.dumps(found).encode())
        for layer, values in enumerate(scores):
            yield f"attention/entropy/{layer}", sum(values["entropy"]) / len(values["entropy"])
        counts = Counter(name for layer in labels for name in layer)
        for name in (*probes.THRESHOLDS, probes.UNNAMED):
            yield f"attention/heads/{name}", counts[name]

    def _text(self, subject: EvalContext) -> tuple[Tensor, Tensor]:
        """(num, context) ids of validation text, evenly spaced; which of them are punctuation."""
        ids = excerpts(subject.task.tokens("val"), self.context, self.num, "context")
        tokenizer = subject.task.tokenizer
        signs = [tokenizer.decode([i]) for i in range(subject.task.vocab_size)]
        is_mark = torch.tensor([sign != "" and sign in string.punctuation for sign in signs])
        return ids.to(subject.device), is_mark[ids].to(subject.device)

    def _random(self, subject: EvalContext) -> Tensor:
        generator = torch.Generator().manual_seed(stream(subject.seed, "heads"))
        vocab = range(FIRST, subject.task.vocab_size)
        return probes.repeated(vocab, self.context // 2, self.num, generator).to(subject.device)

    def _figures(self, subject: EvalContext, text: Tensor) -> dict[str, Any]:
        """For plots: histograms of the weights, means by distance, the maps of one text."""
        maps = probes.attention_maps(subject.model, text)
        shown = text[:1, : self.map_len]
        return {
            "histogram": [_histogram(layer) for layer in maps],
            "by_distance": [_by_distance(layer) for layer in maps],
            "map_text": [subject.task.tokenizer.decode([i]) for i in shown[0].tolist()],
            "maps": [_rounded(layer[0]) for layer in probes.attention_maps(subject.model, shown)],
        }


def _heads(layer: dict[str, list[float]]) -> Iterator[tuple[float, ...]]:
    """The scores of each head, in the order of the layer's keys."""
    return zip(*layer.values(), strict=True)


def _histogram(maps: Tensor) -> list[float]:
    """(B, H, T, T) -> share of the weights in each of BINS bins over [0, 1], future left out."""
    size = maps.shape[-1]
    seen = maps[:, :, *torch.tril_indices(size, size)].float()
    counts = torch.histc(seen, BINS, 0, 1)
    return _rounded(counts / counts.sum())


def _by_distance(maps: Tensor) -> list[list[float]]:
    """Mean weight of each head by distance to the key, (H, T)."""
    means = [maps.diagonal(-back, -2, -1).mean((0, 2)) for back in range(maps.shape[-1])]
    return _rounded(torch.stack(means, 1))


def _rounded(values: Tensor) -> Any:
    return torch.round(values.float(), decimals=4).tolist()
