"""Prompt tuning: learned vectors before every text."""

import torch
from torch import Tensor, nn

from micro_transformer.config.knobs import Count, Positive
from micro_transformer.nn.adapters.base import Adapter
from micro_transformer.nn.arch.base import Net
from micro_transformer.nn.cache.base import Cache
from micro_transformer.nn.parameter_kinds import PROMPT
from micro_transformer.nn.prefix import Prefix

# B batch, T tokens of the text, n of the prompt, D model width


class SoftPrompt(Adapter):
    """`num_tokens` learned vectors before the embeddings of every text (Lester et al., 2021); of an
    encoder-decoder before the source, as in the paper.

    They start as the embeddings of random tokens of the vocabulary (3.2). lr: their peak learning
    rate, in place of the recipe's: about 100 times what full fine-tuning needs.
    """

    def __init__(self, *, num_tokens: Count, lr: Positive):
        self.num_tokens, self.lr = num_tokens, lr

    def insert(self, net: Net) -> None:
        assert not net.prefix.num_tokens, "a net has one prompt"
        table = net.embedding.weight.detach()
        tokens = torch.randint(1, len(table), (self.num_tokens,))  # 0 is padding
        net.prefix = LearnedPrefix(table[tokens.to(table.device)].clone(), self.lr)


class LearnedPrefix(Prefix):
    """Vectors, (n, D), at the positions 0 to n - 1; those of the text follow."""

    kinds = {"weight": PROMPT}

    def __init__(self, vectors: Tensor, lr: float):
        super().__init__()
        self.weight, self.lr = nn.Parameter(vectors), lr
        self.num_tokens = len(vectors)

    def forward(
        self, x: Tensor, pos: Tensor | None, cache: Cache | None = None
    ) -> tuple[Tensor, Tensor | None]:
        num = self.num_tokens
        shifted = None if pos is None else torch.where(pos < 0, pos, pos + num)
        if cache is not None and cache.length:
            return x, shifted
        x = torch.cat((self.weight.to(x.dtype).expand(len(x), -1, -1), x), 1)  # (B, n + T, D)
        if shifted is None:
            return x, None
        own = torch.arange(num, device=x.device).expand(len(x), -1)
        return _after_pads(x, torch.cat((own, shifted), 1), num)

    def cut(self, x: Tensor, num_tokens: int) -> Tensor:
        return x[:, -num_tokens:]


def _after_pads(x: Tensor, pos: Tensor, num: int) -> tuple[Tensor, Tensor]:
    """(B, n + T, D) and (B, n + T), reordered in rows whose text begins with pads: the prompt goes
    between pads and text, as no mask allows a pad between two tokens."""
    pads = (pos[:, num:] < 0).cumprod(1).sum(1, keepdim=True)  # (B, 1)
    if not pads.any():
        return x, pos
    column = torch.arange(pos.shape[1], device=x.device).expand_as(pos)
    moved = torch.where(column < pads + num, column - pads, column)
    source = torch.where(column < pads, column + num, moved)
    return x.gather(1, source[..., None].expand_as(x)), pos.gather(1, source)
