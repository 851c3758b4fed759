"""The encoder: each token sees the whole text, in both directions."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from micro_transformer.nn.arch.base import Net
from micro_transformer.nn.attention import SelfAttention
from micro_transformer.nn.cache.base import Cache
from micro_transformer.nn.context import Context
from micro_transformer.nn.dims import Dims
from micro_transformer.nn.ffn.base import FFN
from micro_transformer.nn.kernels.base import Kernel
from micro_transformer.nn.linear import VocabularyHead
from micro_transformer.nn.norms import make_norm
from micro_transformer.nn.padding import positions
from micro_transformer.nn.patterns.base import Pattern
from micro_transformer.nn.posenc.base import PositionalEncoding
from micro_transformer.nn.prefix import Prefix
from micro_transformer.nn.transformer import Block, Stack, initialise
from micro_transformer.nn.visibility import EVERYTHING
from micro_transformer.wording import _

# B batch, T tokens, D model width, V outputs (classes, or the vocabulary of a masked LM)


def first_token(x: Tensor, pos: Tensor) -> Tensor:
    """(B, T, D) -> (B, D): the first token of each row that is no pad, [CLS]."""
    first = (pos == 0).int().argmax(1)
    return x[torch.arange(len(x), device=x.device), first]


def mean_of_tokens(x: Tensor, pos: Tensor) -> Tensor:
    """(B, T, D) -> (B, D): mean over the tokens that are no pads."""
    real = (pos >= 0)[..., None]
    return (x * real).sum(1) / real.sum(1).clamp(min=1)


def every_token(x: Tensor, pos: Tensor) -> Tensor:
    """(B, T, D), unchanged."""
    return x


POOLING = {"cls": first_token, "mean": mean_of_tokens, "none": every_token}


class Encoder(Net):
    """A bidirectional encoder with pre-LN blocks (Devlin et al., 2019) and a linear head.

    A text begins with BOS, in the place of BERT's [CLS]. pooling: what the head reads. Of a
    classifier one vector per text, that of [CLS] (`cls`) or the mean over its tokens (`mean`), as
    it leaves the final norm; of a masked language model every token (`none`).
    """

    reads = ("sentences",)  # in the words of Task.gives
    reads_with = {"pooling": {"cls": ("labels",), "mean": ("labels",), "none": ("masked_tokens",)}}
    bidirectional = True

    def __init__(
        self,
        dims: Dims,
        posenc: PositionalEncoding,
        pattern: Pattern,
        make_ffn: Callable[[], FFN],
        make_kernel: Callable[[], Kernel],
        *,
        pooling: Literal["cls", "mean", "none"],
    ):
        super().__init__()
        self.dims = dims
        self.pool = POOLING[pooling]
        self.embedding = nn.Embedding(dims.vocab_size, dims.d_model)
        self.prefix = Prefix()
        self.posenc = posenc
        self.embedding_norm = (
            make_norm(dims, dims.d_model) if dims.embedding_norm else nn.Identity()
        )
        self.dropout = nn.Dropout(dims.dropout) if dims.dropout else nn.Identity()
        self.stack = Stack(
            dims,
            (
                Block(dims, {"attention": SelfAttention(dims, make_kernel), "ffn": make_ffn()})
                for _ in range(dims.num_layers)
            ),
        )
        self.head = VocabularyHead(dims.d_model, dims.num_outputs, bias=False)
        if dims.tied_embeddings and self.pool is every_token:
            self.head.weight = self.embedding.weight
        initialise(self, self.stacks(), zero_init=dims.zero_init)

    def forward(
        self,
        ids: Tensor,
        cache: Cache | None = None,
        pos: Tensor | None = None,
        aux_scale: Tensor | None = None,
        *,
        at: Tensor | None = None,
    ) -> Tensor:
        """(B, T) ids, padded at either end -> (B, V) logits, without pooling (B, T, V).

        at: (B, T) booleans; then the logits of these tokens alone, (N, V), so that a masked
        language model forms none that it does not score.
        """
        pos = positions(ids) if pos is None else pos
        hidden = self.hidden(ids, cache, pos, aux_scale)
        return self.logits(self.pool(hidden, pos) if at is None else hidden[at])

    def hidden(
        self,
        ids: Tensor,
        cache: Cache | None = None,
        pos: Tensor | None = None,
        aux_scale: Tensor | None = None,
    ) -> Tensor:
        """As `Net.hidden`; without pos the pads of the ids are masked. ValueError for a cache:
        keys depend on the tokens after them."""
        if cache is not None:
            raise ValueError(_("an encoder reads a text at once and writes none; use no cache"))
        text_pos = positions(ids) if pos is None else pos
        x, pos = self.prefix(self.embedding(ids), text_pos)
        context = Context(
            self.posenc,
            EVERYTHING,
            pos,
            batch=ids.shape[0],
            num_heads=self.dims.num_heads,
            padded=True,
        )
        context.aux_scale = aux_scale
        x = self.dropout(self.embedding_norm(self.posenc.embed(x, pos)))
        return self.prefix.cut(self.stack(x, context), ids.shape[1])

    def logits(self, hidden: Tensor) -> Tensor:
        return self.head(hidden)

    def stacks(self) -> list[Stack]:
        return [self.stack]
