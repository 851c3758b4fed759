"""Translation: the target sentence given the source, token by token, scored in nats per token."""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from micro_transformer.data.length_buckets import pad_right
from micro_transformer.data.tokenizer import BOS, EOS, PAD
from micro_transformer.tasks.base import LOSS, Quality, evaluating
from micro_transformer.tasks.bucketed import BucketedTask
from micro_transformer.tasks.language_modeling import nll_metrics
from micro_transformer.tasks.token_prediction import mean_nll

# B sentences, S source tokens, T target tokens with BOS or EOS, V vocabulary size


class SourceTarget(NamedTuple):
    """Pairs of sentences, padded on the right with PAD."""

    ids: Tensor  # (B, T) int64: BOS, then the target
    targets: Tensor  # (B, T): the target, then EOS
    source: Tensor  # (B, S)


class Translation(BucketedTask):
    """Base class of tasks with prepared columns `source` and `target`. The model is called as
    model(ids, source=source) -> logits (B, T, V).

    A training batch has at most batch_size x context tokens on either side.
    """

    abstract = True
    gives = ("source_target",)
    quality = Quality("val/bleu", lower_is_better=False)

    @property
    def watch(self) -> Quality:
        """The validation loss: BLEU needs decoding, for which no training waits."""
        return LOSS

    def batch_of(
        self, rows: np.ndarray, seed: int, step: int, device: torch.device | str
    ) -> SourceTarget:
        return self._batch("train", rows, device)

    def lengths(self, split: str) -> np.ndarray:
        """(N,) tokens of the longer side, EOS included."""
        sides = [np.diff(self.data.ends(split, c), prepend=0) for c in ("source", "target")]
        return np.maximum(sides[0], sides[1] + 1)

    def num_tokens(self, batch: SourceTarget) -> Tensor:
        return (batch.ids != PAD).sum() + (batch.source != PAD).sum()

    def num_scored(self, batch: SourceTarget) -> Tensor:
        return (batch.targets != PAD).sum()

    def loss(self, model: nn.Module, batch: SourceTarget, label_smoothing: float = 0.0) -> Tensor:
        return mean_nll(model(batch.ids, source=batch.source), batch.targets, label_smoothing)

    def score(self, model: nn.Module, split: str = "val") -> dict[str, float]:
        """loss (nats per target token, EOS included), ppl, bits_per_byte (of the target text).

        Of a source with several references the first is scored.
        """
        device = next(model.parameters()).device
        total, tokens = 0.0, 0
        with evaluating(model), torch.autocast(device.type, enabled=False):
            for rows in self.in_order(split):
                batch = self._batch(split, rows, device)
                logits = model(batch.ids, source=batch.source).flatten(0, 1).float()
                nll = F.cross_entropy(
                    logits, batch.targets.flatten(), ignore_index=PAD, reduction="sum"
                )
                total += float(nll)
                tokens += int(self.num_scored(batch))
        num_bytes = self.data.splits[split]["columns"]["target"]["bytes"]
        return nll_metrics(total, tokens, num_bytes)

    def sentences(self, split: str, num: int) -> list[tuple[str, list[str]]]:
        """The first `num` sources of val or test, in random order, each with its references."""
        rows = range(min(num, self.data.splits[split]["rows"]))
        decode = self.tokenizer.decode
        sources = [decode(self.data.row(split, i, "source").tolist()) for i in rows]
        return list(zip(sources, self.data.entries(split, "references"), strict=False))

    def _batch(self, split: str, rows: np.ndarray, device: torch.device | str) -> SourceTarget:
        sources, targets = (
            [np.asarray(self.data.row(split, int(i), c)).astype(np.int64) for i in rows]
            for c in ("source", "target")
        )
        return SourceTarget(
            pad_right([np.r_[BOS, target] for target in targets], device),
            pad_right([np.r_[target, EOS] for target in targets], device),
            pad_right(sources, device),
        )
