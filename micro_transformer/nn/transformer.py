"""The Transformer block, the stack of blocks, and initialisation."""

import math
from collections.abc import Callable

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from micro_transformer.nn.attention import SelfAttention
from micro_transformer.nn.context import Context
from micro_transformer.nn.dims import Dims
from micro_transformer.nn.ffn.base import FFN
from micro_transformer.nn.kernels.base import Kernel
from micro_transformer.nn.norms import make_norm

# B batch, T tokens, D model width

STD = 0.02  # standard deviation of initial weights (Radford et al., 2018)


class Block(nn.Module):
    """x + attention(norm(x)), then x + ffn(norm(x)): pre-LN (Xiong et al., 2020)."""

    def __init__(self, dims: Dims, ffn: FFN, make_kernel: Callable[[], Kernel]):
        super().__init__()
        self.attention_norm = make_norm(dims, dims.d_model)
        self.attention = SelfAttention(dims, make_kernel)
        self.ffn_norm = make_norm(dims, dims.d_model)
        self.ffn = ffn
        self.dropout = nn.Dropout(dims.dropout) if dims.dropout else nn.Identity()

    def forward(self, x: Tensor, context: Context, index: int) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        x = x + self.dropout(self.attention(self.attention_norm(x), context, index))
        return x + self.dropout(self.ffn(self.ffn_norm(x)))


class Stack(nn.Module):
    """All blocks, followed by a final norm."""

    def __init__(self, dims: Dims, make_ffn: Callable[[], FFN], make_kernel: Callable[[], Kernel]):
        super().__init__()
        self.blocks = nn.ModuleList(
            Block(dims, make_ffn(), make_kernel) for _ in range(dims.num_layers)
        )
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


def initialise(net: nn.Module, dims: Dims) -> None:
    """Matrices are drawn from N(0, 0.02²), biases are 0, residual output weights are smaller.

    Residual output weights: std 0.02 / sqrt(2 num_layers), so that the variance of the residual
    stream does not grow with depth (Radford et al., 2019); 0 with zero_init, so that each block
    starts as the identity.
    """
    for module in net.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=STD)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
    std = 0.0 if dims.zero_init else STD / math.sqrt(2 * dims.num_layers)
    for block in net.modules():
        if isinstance(block, Block):
            for weight in (*block.attention.outputs(), *block.ffn.outputs()):
                nn.init.normal_(weight, std=std)
