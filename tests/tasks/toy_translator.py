"""A net that reads a source and the target so far: what tasks and evaluators of translation need of
a net, and nothing else."""

import torch
from torch import Tensor, nn

from micro_transformer.data.tokenizer import PAD


class Translator(nn.Module):
    """(B, T), (B, S) -> (B, T, V): from the mean of the source, the last token and the mean of the
    target so far. Pads count nowhere."""

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, 16, padding_idx=PAD)
        self.mix = nn.Linear(16, 16)
        self.head = nn.Linear(16, vocab_size)

    def forward(self, ids: Tensor, source: Tensor, aux_scale: Tensor | None = None) -> Tensor:
        read = self.embedding(source).sum(1) / (source != PAD).sum(1, keepdim=True)
        so_far = self.embedding(ids)
        past = so_far.cumsum(1) / torch.arange(1, ids.shape[1] + 1)[:, None]
        return self.head(self.mix(read[:, None] + so_far + past).relu())

    def blocks(self):
        return []

    def output_weights(self):
        return [self.head.weight]


class Uniform(Translator):
    """Every token is as likely."""

    def forward(self, ids, source, aux_scale=None):
        return super().forward(ids, source) * 0
