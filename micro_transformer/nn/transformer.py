"""The Transformer block, the stack of blocks, and initialisation."""

import math
from collections.abc import Iterable, Mapping

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from micro_transformer.nn.attention import SelfAttention
from micro_transformer.nn.context import Context
from micro_transformer.nn.dims import Dims
from micro_transformer.nn.ffn.base import FFN
from micro_transformer.nn.norms import make_norm
from micro_transformer.nn.parameter_kinds import STD, parameter_kinds
from micro_transformer.nn.sublayer import SubLayer

# B batch, T tokens, D model width


class Block(nn.Module):
    """x + dropout(f(norm(x))) for each sub-layer f in order: pre-LN (Xiong et al., 2020).

    Encoder and decoder blocks differ in their sub-layers only: `attention` and `ffn`, with
    cross-attention in between where a net reads two texts. The norm of f is `<name of f>_norm`.
    """

    attention: SelfAttention
    ffn: FFN

    def __init__(self, dims: Dims, sublayers: Mapping[str, SubLayer]):
        super().__init__()
        self.names = tuple(sublayers)
        for name, sublayer in sublayers.items():
            self.add_module(f"{name}_norm", make_norm(dims, dims.d_model))
            self.add_module(name, sublayer)
        self.dropout = nn.Dropout(dims.dropout) if dims.dropout else nn.Identity()

    def branches(self) -> list[tuple[nn.Module, SubLayer]]:
        """(norm, sub-layer) of each residual branch, in order."""
        return [(getattr(self, f"{name}_norm"), getattr(self, name)) for name in self.names]

    def forward(self, x: Tensor, context: Context, index: int) -> Tensor:
        """(B, T, D) -> (B, T, D). index: of this block, and of its layer in the cache."""
        for norm, sublayer in self.branches():
            x = x + self.dropout(sublayer.residual(norm(x), context, index))
        return x


class Stack(nn.Module):
    """Blocks with a common residual stream, followed by a final norm."""

    def __init__(self, dims: Dims, blocks: Iterable[Block]):
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.norm = make_norm(dims, dims.d_model)
        self.checkpointed = False  # True: gradient checkpointing per block

    def forward(self, x: Tensor, context: Context) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        for index, block in enumerate(self.blocks):
            if self.checkpointed and self.training:
                x = checkpoint(block, x, context, index, use_reentrant=False)
            else:
                x = block(x, context, index)
        return self.norm(x)

    def sublayers(self) -> list[SubLayer]:
        """The sub-layer of every residual branch, first to last."""
        return [sublayer for block in self.blocks for _, sublayer in block.branches()]  # type: ignore[operator]


def initialise(net: nn.Module, stacks: Iterable[Stack], *, zero_init: bool) -> None:
    """Every parameter has its kind's initial values; residual output weights are smaller.

    Residual output weights: std 0.02 / sqrt(number of residual branches of the stack), so that the
    variance of the residual stream does not grow with depth (Radford et al., 2019); 0 with
    zero_init, so that each block starts as the identity.
    """
    for parameter, kind in parameter_kinds(net):
        if kind.initial is not None:
            kind.initial(parameter)
    for stack in stacks:
        sublayers = stack.sublayers()
        std = 0.0 if zero_init else STD / math.sqrt(len(sublayers))
        for sublayer in sublayers:
            for weight in sublayer.residual_outputs():
                nn.init.normal_(weight, std=std)
