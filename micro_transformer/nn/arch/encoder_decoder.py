"""The encoder-decoder: a language model of the target that reads a source."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from micro_transformer.config.knobs import Rate
from micro_transformer.nn.arch.base import Net
from micro_transformer.nn.attention import SelfAttention
from micro_transformer.nn.cache.base import Cache
from micro_transformer.nn.context import Context
from micro_transformer.nn.cross_attention import CrossAttention
from micro_transformer.nn.dims import Dims
from micro_transformer.nn.ffn.base import FFN
from micro_transformer.nn.kernels.base import Kernel
from micro_transformer.nn.linear import VocabularyHead
from micro_transformer.nn.norms import make_norm
from micro_transformer.nn.padding import PAD, positions
from micro_transformer.nn.patterns.base import Pattern
from micro_transformer.nn.posenc.base import PositionalEncoding
from micro_transformer.nn.prefix import Prefix
from micro_transformer.nn.source_memory import Memory, SourceContext
from micro_transformer.nn.transformer import Block, Stack, initialise
from micro_transformer.nn.visibility import CAUSAL, EVERYTHING, Visibility, all_of
from micro_transformer.wording import _

# B batch, T tokens of the target, S tokens of the source, H heads, D model width, V vocabulary size


class EncoderDecoder(Net):
    """Encoder and decoder (Vaswani et al., 2017) with pre-LN blocks, `num_layers` in each stack.

    Source and target share the embedding and the positional encoding. The encoder sees the whole
    source, pads apart; its output is normalised before the decoder reads it. A decoder block is
    self-attention, cross-attention, FFN. visibility: of the decoder's self-attention, as the
    pattern says. source_dropout: probability that a whole source is taken for pads in training, so
    that the net can also write without one, as classifier-free guidance needs. `flops_per_token` is
    that of a target token with one token of the source.
    """

    reads = ("source_target",)  # in the words of Task.gives

    def __init__(
        self,
        dims: Dims,
        posenc: PositionalEncoding,
        pattern: Pattern,
        make_ffn: Callable[[], FFN],
        make_kernel: Callable[[], Kernel],
        *,
        source_dropout: Rate = 0.0,
    ):
        super().__init__()
        self.dims, self.source_dropout = dims, source_dropout
        self.embedding = nn.Embedding(dims.vocab_size, dims.d_model)
        self.prefix = Prefix()  # of the source
        self.posenc = posenc
        self.embedding_norm = (
            make_norm(dims, dims.d_model) if dims.embedding_norm else nn.Identity()
        )
        self.dropout = nn.Dropout(dims.dropout) if dims.dropout else nn.Identity()
        self.encoder = Stack(
            dims,
            (
                Block(dims, {"attention": SelfAttention(dims, make_kernel), "ffn": make_ffn()})
                for _ in range(dims.num_layers)
            ),
        )
        self.decoder = Stack(
            dims,
            (
                Block(
                    dims,
                    {
                        "attention": SelfAttention(dims, make_kernel),
                        "cross_attention": CrossAttention(dims, make_kernel),
                        "ffn": make_ffn(),
                    },
                )
                for _ in range(dims.num_layers)
            ),
        )
        self.head = VocabularyHead(dims.d_model, dims.num_outputs, bias=False)
        if dims.tied_embeddings:
            self.head.weight = self.embedding.weight
        self.visibility: Visibility = all_of(*([CAUSAL] if pattern.causal else []), pattern)
        initialise(self, self.stacks(), zero_init=dims.zero_init)

    def forward(
        self,
        ids: Tensor,
        cache: Cache | None = None,
        pos: Tensor | None = None,
        aux_scale: Tensor | None = None,
        *,
        source: Tensor | None = None,
        memory: Memory | None = None,
    ) -> Tensor:
        """(B, T) ids of the target -> (B, T, V) logits, given the source (B, S) or its memory."""
        if source is not None:
            memory = self.encode(self._dropped(source), aux_scale)
        return self.logits(self.hidden(ids, cache, pos, aux_scale, memory))

    def encode(self, source: Tensor, aux_scale: Tensor | None = None) -> Memory:
        """(B, S) ids, padded at either end -> what the decoder reads of them."""
        x, pos = self.prefix(self.embedding(source), positions(source))
        context = Context(
            self.posenc,
            EVERYTHING,
            pos,
            batch=source.shape[0],
            num_heads=self.dims.num_heads,
            padded=True,
        )
        context.aux_scale = aux_scale
        encoded = self.encoder(self._embed(x, pos), context)
        return Memory([each.keys_and_values(encoded) for each in self._cross_attentions()], pos)

    def hidden(
        self,
        ids: Tensor,
        cache: Cache | None = None,
        pos: Tensor | None = None,
        aux_scale: Tensor | None = None,
        memory: Memory | None = None,
    ) -> Tensor:
        """As `Net.hidden`, of the target. memory: from `encode`, always needed."""
        if memory is None:
            raise ValueError(_("source: a net of kind EncoderDecoder reads one; give it"))
        padded = pos is not None or (cache is not None and not cache.plain)
        if pos is None:
            pos = (cache or Cache([])).positions(ids.shape[1], ids.device)
        context = SourceContext(
            self.posenc,
            self.visibility,
            pos,
            batch=ids.shape[0],
            num_heads=self.dims.num_heads,
            padded=padded,
            cache=cache,
        )
        context.aux_scale, context.memory = aux_scale, memory
        if context.real is None and cache is None:
            context.real = ids != PAD  # targets of a batch are padded at their end, unmasked
        x = self.decoder(self._embed(self.embedding(ids), pos), context)
        if cache is not None:
            cache.advance(pos, context.k_pos)
        return x

    def hidden_and_source_attention(
        self, ids: Tensor, cache: Cache | None, pos: Tensor | None, memory: Memory
    ) -> tuple[Tensor, Tensor]:
        """`hidden`, and the weights (B, T, S) of the last layer's cross-attention, mean over heads.

        These alone are computed by hand; every kernel stays what it is.
        """
        seen: list[Tensor] = []
        last = self._cross_attentions()[-1]
        handle = last.q.register_forward_hook(lambda module, args, q: seen.append(q))
        try:
            hidden = self.hidden(ids, cache, pos, memory=memory)
        finally:
            handle.remove()
        weights = last.weights(seen[0], memory, len(self.decoder.blocks) - 1)  # (B, H, T, S)
        num_tokens = weights.shape[-1] - self.prefix.num_tokens
        # (B, S, T), those of the prompt left out, then (B, T, S)
        return hidden, self.prefix.cut(weights.mean(1).mT, num_tokens).mT

    def logits(self, hidden: Tensor) -> Tensor:
        return self.head(hidden)

    def stacks(self) -> list[Stack]:
        return [self.encoder, self.decoder]

    def use_kernel(self, make_kernel: Callable[[], Kernel]) -> None:
        super().use_kernel(make_kernel)
        for each in self._cross_attentions():
            each.kernel = make_kernel()

    def _cross_attentions(self) -> list[CrossAttention]:
        return [block.cross_attention for block in self.decoder.blocks]  # type: ignore[misc]

    def _dropped(self, source: Tensor) -> Tensor:
        """(B, S): in training some rows are pads alone."""
        if not self.training or not self.source_dropout:
            return source
        is_dropped = torch.rand(len(source), 1, device=source.device) < self.source_dropout
        return source.masked_fill(is_dropped, PAD)

    def _embed(self, x: Tensor, pos: Tensor) -> Tensor:
        x = self.embedding_norm(self.posenc.embed(x, pos))
        return self.dropout(x)
