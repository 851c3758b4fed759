"""The decoder-only language model."""

from collections.abc import Callable

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
from micro_transformer.nn.patterns.base import Pattern
from micro_transformer.nn.posenc.base import PositionalEncoding
from micro_transformer.nn.prefix import Prefix
from micro_transformer.nn.transformer import Block, Stack, initialise
from micro_transformer.nn.visibility import CAUSAL, Visibility, all_of

# B batch, T tokens, D model width, V vocabulary size


class DecoderLM(Net):
    """A decoder-only language model (Radford et al., 2018): embedding, blocks, vocabulary head.

    visibility: which keys a query sees, pads apart; it may be replaced on a trained net.
    """

    reads = ("tokens",)  # in the words of Task.gives

    def __init__(
        self,
        dims: Dims,
        posenc: PositionalEncoding,
        pattern: Pattern,
        make_ffn: Callable[[], FFN],
        make_kernel: Callable[[], Kernel],
    ):
        super().__init__()
        self.dims = dims
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
        if dims.tied_embeddings:
            self.head.weight = self.embedding.weight
        self.visibility: Visibility = all_of(*([CAUSAL] if pattern.causal else []), pattern)
        initialise(self, self.stacks(), zero_init=dims.zero_init)

    def hidden(
        self,
        ids: Tensor,
        cache: Cache | None = None,
        pos: Tensor | None = None,
        aux_scale: Tensor | None = None,
    ) -> Tensor:
        x, pos = self.prefix(self.embedding(ids), pos, cache)
        padded = pos is not None or (cache is not None and not cache.plain)
        if pos is None:
            pos = (cache or Cache([])).positions(x.shape[1], x.device)
        context = Context(
            self.posenc,
            self.visibility,
            pos,
            batch=ids.shape[0],
            num_heads=self.dims.num_heads,
            padded=padded,
            cache=cache,
        )
        context.aux_scale = aux_scale
        x = self.dropout(self.embedding_norm(self.posenc.embed(x, pos)))
        x = self.stack(x, context)
        if cache is not None:
            cache.advance(pos, context.k_pos)
        return self.prefix.cut(x, ids.shape[1])

    def logits(self, hidden: Tensor) -> Tensor:
        return self.head(hidden)

    def stacks(self) -> list[Stack]:
        return [self.stack]

    @property
    def cached_prefix(self) -> int:
        return self.prefix.num_tokens
