"""A task of sentences with labels, and a net that reads them: what the trainer must not know."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from micro_transformer.data.tokenizer import PAD
from micro_transformer.tasks.base import Quality, Task, evaluating

VOCAB, LABELS, LONGEST = 9, 3, 6


class Sentences(NamedTuple):
    """Padded sentences (B, T), and the class of each, (B,): 0 is a class."""

    ids: Tensor
    labels: Tensor


class Labelled(Task):
    """Sentences of 1 to 6 tokens. The number of rows differs by step, and every other step has
    class 0 alone."""

    corpus = None
    gives = ("labels",)
    quality = Quality("val/accuracy", lower_is_better=False)
    train_tokens = 1000
    vocab_size = VOCAB

    def __init__(self) -> None:
        super().__init__(None)

    def train_batch(self, seed, step, batch_size, context, device="cpu"):
        draw = torch.Generator().manual_seed(seed % 1000 + step)
        rows = batch_size * (1 + step % 3)
        ids = torch.randint(1, VOCAB, (rows, LONGEST), generator=draw)
        lengths = torch.randint(1, LONGEST + 1, (rows, 1), generator=draw)
        ids[torch.arange(LONGEST) >= lengths] = PAD
        labels = torch.randint(0, LABELS, (rows,), generator=draw) * (step % 2)
        return Sentences(ids.to(device), labels.to(device))

    def num_tokens(self, batch):
        return (batch.ids != PAD).sum()

    def num_scored(self, batch):
        return len(batch.labels)

    def loss(self, model, batch, label_smoothing=0.0):
        return F.cross_entropy(model(batch.ids), batch.labels, label_smoothing=label_smoothing)

    def score(self, model, split="val"):
        batch = self.train_batch(0, 1, 16, LONGEST)
        with evaluating(model):
            logits = model(batch.ids)
        hits = (logits.argmax(-1) == batch.labels).double().mean()
        return {"loss": float(F.cross_entropy(logits, batch.labels)), "accuracy": float(hits)}


class MeanOfTokens(nn.Module):
    """(B, T) -> (B, LABELS): as an encoder's, the output is one row per sentence."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCAB, 8, padding_idx=PAD)
        self.mix = nn.Linear(8, 8)
        self.head = nn.Linear(8, LABELS)

    def forward(self, ids, aux_scale=None):
        mean = self.embedding(ids).sum(1) / (ids != PAD).sum(1, keepdim=True)
        return self.head(self.mix(mean).relu())

    def blocks(self):
        return []

    def output_weights(self):
        return [self.head.weight]
