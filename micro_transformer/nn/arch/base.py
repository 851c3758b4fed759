"""Base class of nets: what the trainer, tasks, evaluators, benches and generation use of a net."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from micro_transformer.nn.cache.base import Cache
from micro_transformer.nn.dims import Dims
from micro_transformer.nn.kernels.base import Kernel
from micro_transformer.nn.posenc.base import PositionalEncoding
from micro_transformer.nn.prefix import Prefix
from micro_transformer.nn.transformer import Block, Stack

# B batch, T tokens, D model width, V outputs (the vocabulary of a language model)


class Net(nn.Module):
    """A net of Transformer blocks. A subclass gives `stacks`, `hidden` and `logits`.

    Only the trained group `arch` names a subclass; all other code uses this interface.
    """

    dims: Dims
    posenc: PositionalEncoding
    embedding: nn.Embedding
    prefix: Prefix
    head: nn.Module

    def forward(
        self,
        ids: Tensor,
        cache: Cache | None = None,
        pos: Tensor | None = None,
        aux_scale: Tensor | None = None,
    ) -> Tensor:
        """(B, T) token ids -> (B, T, V) logits."""
        return self.logits(self.hidden(ids, cache, pos, aux_scale))

    def hidden(
        self,
        ids: Tensor,
        cache: Cache | None = None,
        pos: Tensor | None = None,
        aux_scale: Tensor | None = None,
    ) -> Tensor:
        """(B, T) token ids -> (B, T, D), the input of `logits`; keys and values go to the cache.

        pos: (B, T), -1 at pads. None: the positions that follow the cached tokens, no pads; this is
        cheaper, as no padding mask is needed. aux_scale: factor of the gradients of auxiliary
        losses (see nn/auxiliary.py), a scalar; None outside of training: they are not computed.
        """
        raise NotImplementedError

    def logits(self, hidden: Tensor) -> Tensor:
        """(..., D) -> (..., V)."""
        raise NotImplementedError

    def stacks(self) -> list[Stack]:
        """The stacks of blocks: one, or those of encoder and decoder."""
        raise NotImplementedError

    def blocks(self) -> list[Block]:
        """The blocks of all stacks, first to last."""
        return [block for stack in self.stacks() for block in stack.blocks]  # type: ignore[misc]

    def output_layers(self) -> list[nn.Module]:
        """The layers after the last stack that make its output a prediction: the head."""
        return [self.head]

    @property
    def cached_prefix(self) -> int:
        """Tokens that a cache holds before those of a text."""
        return 0

    def trained_state(self) -> dict[str, Tensor]:
        """The state dict without frozen parameters: what a training changes."""
        found = self.state_dict(keep_vars=True).items()
        kept = {k: v for k, v in found if v.requires_grad or not isinstance(v, nn.Parameter)}
        return {name: tensor.detach() for name, tensor in kept.items()}

    def use_kernel(self, make_kernel: Callable[[], Kernel]) -> None:
        """Each layer has a new kernel from make_kernel; kernels have no parameters."""
        for block in self.blocks():
            block.attention.kernel = make_kernel()

    def use_checkpointing(self) -> None:
        """Gradient checkpointing is on: one tensor per block is stored, the rest recomputed."""
        for stack in self.stacks():
            stack.checkpointed = True

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Data type of the weights."""
        return next(self.parameters()).dtype

    def active_params(self) -> int:
        """Parameters used per token: all but those of experts that a token is not routed to."""
        unused = (
            sum(p.numel() for p in block.ffn.parameters()) - block.ffn.active_params()
            for block in self.blocks()
        )
        return sum(p.numel() for p in self.parameters()) - sum(unused)

    def flops_per_token(self) -> int:
        """FLOPs per token of a forward pass: 2 per weight of every matrix product that the token
        goes through, vocabulary head included; attention over the context is not."""
        ffns = [block.ffn for block in self.blocks()]
        within = {module for ffn in ffns for module in ffn.modules()}
        outside = (m for m in self.modules() if isinstance(m, nn.Linear) and m not in within)
        return sum(2 * m.weight.numel() for m in outside) + sum(f.flops_per_token() for f in ffns)
