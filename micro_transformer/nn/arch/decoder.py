"""The decoder-only language model."""

from collections.abc import Callable

from torch import Tensor, nn

from micro_transformer.nn.cache.base import Cache
from micro_transformer.nn.context import Context
from micro_transformer.nn.dims import Dims
from micro_transformer.nn.ffn.base import FFN
from micro_transformer.nn.kernels.base import Kernel
from micro_transformer.nn.linear import Linear
from micro_transformer.nn.norms import make_norm
from micro_transformer.nn.patterns.base import Pattern
from micro_transformer.nn.posenc.base import PositionalEncoding
from micro_transformer.nn.transformer import Block, Stack, initialise
from micro_transformer.nn.visibility import CAUSAL, Visibility, all_of

# B batch, T tokens, D model width, V vocabulary size


class DecoderLM(nn.Module):
    """A decoder-only language model (Radford et al., 2018): embedding, blocks, vocabulary head.

    visibility: which keys a query sees, pads apart; it may be replaced on a trained net.
    """

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
        self.posenc = posenc
        self.embedding_norm = (
            make_norm(dims, dims.d_model) if dims.embedding_norm else nn.Identity()
        )
        self.dropout = nn.Dropout(dims.dropout) if dims.dropout else nn.Identity()
        self.stack = Stack(dims, make_ffn, make_kernel)
        self.head = Linear(dims.d_model, dims.vocab_size, bias=False)
        if dims.tied_embeddings:
            self.head.weight = self.embedding.weight
        self.visibility: Visibility = all_of(CAUSAL, pattern)
        initialise(self, dims)

    def forward(self, ids: Tensor, cache: Cache | None = None, pos: Tensor | None = None) -> Tensor:
        """(B, T) token ids -> (B, T, V) logits."""
        return self.logits(self.hidden(ids, cache, pos))

    def hidden(self, ids: Tensor, cache: Cache | None = None, pos: Tensor | None = None) -> Tensor:
        """(B, T) token ids -> (B, T, D), the input of `logits`; keys and values go to the cache.

        pos: (B, T), -1 at pads. None: the positions that follow the cached tokens, no pads; this is
        cheaper, as no padding mask is needed.
        """
        padded = pos is not None or (cache is not None and not cache.plain)
        if pos is None:
            pos = (cache or Cache([])).positions(ids.shape[1], ids.device)
        context = Context(
            self.posenc,
            self.visibility,
            pos,
            batch=ids.shape[0],
            num_heads=self.dims.num_heads,
            padded=padded,
            cache=cache,
        )
        x = self.dropout(self.embedding_norm(self.posenc.embed(self.embedding(ids), pos)))
        x = self.stack(x, context)
        if cache is not None:
            cache.advance(pos, context.k_pos)
        return x

    def logits(self, hidden: Tensor) -> Tensor:
        """(..., D) -> (..., V)."""
        return self.head(hidden)

    def use_kernel(self, make_kernel: Callable[[], Kernel]) -> None:
        """Each layer has a new kernel from make_kernel; kernels have no parameters."""
        for block in self.blocks():
            block.attention.kernel = make_kernel()

    def use_checkpointing(self) -> None:
        """Gradient checkpointing is on: one tensor per block is stored, the rest recomputed."""
        self.stack.checkpointed = True

    def blocks(self) -> list[Block]:
        """The blocks, first to last."""
        return list(self.stack.blocks)  # type: ignore[arg-type]

    def output_weights(self) -> list[Tensor]:
        """Weights of the vocabulary head; an optimizer treats them as embeddings."""
        return [self.head.weight]


def auxiliary_loss(model: DecoderLM) -> Tensor | float:
    """Sum of the FFNs' auxiliary losses in the last forward pass; 0 for a dense net."""
    return sum((block.ffn.auxiliary_loss() for block in model.blocks()), 0.0)
