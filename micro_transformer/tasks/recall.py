"""Associative recall: which value followed this key? Generated from a seed, never prepared."""

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from micro_transformer.config.knobs import Count, Few
from micro_transformer.data.recall import Asked, Drawn, Symbols, at_distance, sequences
from micro_transformer.data.tokenizer import PAD
from micro_transformer.seeds import stream
from micro_transformer.tasks.base import Task
from micro_transformer.tasks.language_modeling import SCORED_AT_ONCE, evaluating, mean_nll
from micro_transformer.wording import _

SPLITS = ("train", "val", "test")


class Recall(Task):
    """Multi-query associative recall (Arora et al., 2023): loss and score on answers alone.

    There is no corpus: a batch is a function of (seed, step), so that the code and the knobs, which
    are in every fingerprint, are all that the data depend on.

    A training starts on short sequences and doubles their length every `grow_every` batches, up to
    train.context; shorter stages have so many more sequences that every step has as many tokens.
    The stages follow the step, not the loss: a loss would be a state to save, and a resume or
    another checkpoint interval would no longer see the same batches.
    """

    corpus = None
    gives = "pairs"
    train_tokens = float("inf")  # nothing is seen twice

    def __init__(
        self,
        data_root: Path | str = "",  # not read
        *,
        pairs: Few = 32,
        spare: Few = 32,
        start: Count = 64,
        grow_every: Count = 100,
        window: Count = 1024,
        sequences: Count = 32,
    ) -> None:
        self.symbols = Symbols(pairs, pairs + spare)
        self.start, self.grow_every = start, grow_every
        self.window, self.sequences = window, sequences
        self.fixed = lru_cache(maxsize=4)(self._fixed)
        super().__init__(Drawn(self.symbols.tokenizer, lambda split: self.fixed(split, window)))

    def length(self, step: int, context: int) -> int:
        """Sequence length (tokens) of the batch of a step."""
        return min(context, self.start << min(step // self.grow_every, 40))

    def train_batch(
        self,
        seed: int,
        step: int,
        batch_size: int,
        context: int,
        device: torch.device | str = "cpu",
    ) -> Asked:
        length = self.length(step, context)
        draw = np.random.default_rng(stream(seed, "recall", step))
        return sequences(draw, self.symbols, batch_size * (context // length), length).to(device)

    def loss(self, model: nn.Module, batch: Asked, label_smoothing: float = 0.0) -> Tensor:
        return mean_nll(model(batch.ids), batch.targets, label_smoothing)

    def num_scored(self, batch: Asked) -> int:
        return len(batch.answers())

    def score(self, model: nn.Module, split: str = "val") -> dict[str, float]:
        """loss (nats an answer) and recall (share of answers that the most likely token hits).

        Over `sequences` fixed sequences of `window` tokens. Logits are formed at the answers only.
        """
        nll, hits = answers(model, self.fixed(split, self.window))
        return {"loss": float(nll.mean()), "recall": float(hits.double().mean())}

    def _fixed(self, split: str, length: int) -> Asked:
        """The sequences that every model is scored on; no training draws from their streams."""
        if split not in SPLITS:
            raise ValueError(
                _("split={split}: task recall has {splits}", split=split, splits=", ".join(SPLITS))
            )
        draw = np.random.default_rng(stream(0, "recall", "fixed", split))
        return sequences(draw, self.symbols, self.sequences, length)

    def at_distance(self, distance: int, num: int, queries: int) -> Asked:
        """Fixed sequences in which each query follows its key at exactly `distance` tokens."""
        draw = np.random.default_rng(stream(0, "recall", "distance", distance))
        return at_distance(draw, self.symbols, num, distance, queries)


def answers(model: Any, asked: Asked) -> tuple[Tensor, Tensor]:
    """-log p of each answer, (N,) float64, and whether it is the most likely token, (N,) bool.

    Logits are formed at the answers alone, a few sequences at a time: nothing of T x V.
    """
    device = next(model.parameters()).device
    at_once = max(1, SCORED_AT_ONCE // asked.ids.shape[1])
    nll, hits = [], []
    with evaluating(model), torch.autocast(device.type, enabled=False):
        for ids, targets in zip(*(t.to(device).split(at_once) for t in asked), strict=True):
            here = targets != PAD
            logits, wanted = model.logits(model.hidden(ids)[here]).double(), targets[here]
            nll.append(F.cross_entropy(logits, wanted, reduction="none"))
            hits.append(logits.argmax(-1) == wanted)
    return torch.cat(nll), torch.cat(hits)
