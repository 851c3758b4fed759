"""Toy components that no configuration offers yet: experts, a learned bias, an encoder."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from micro_transformer.nn.arch.base import Net
from micro_transformer.nn.attention import SelfAttention
from micro_transformer.nn.auxiliary import attach
from micro_transformer.nn.context import Context
from micro_transformer.nn.dims import Dims
from micro_transformer.nn.ffn.base import FFN
from micro_transformer.nn.parameter_kinds import EXPERTS, ROUTER
from micro_transformer.nn.posenc.base import PositionalEncoding
from micro_transformer.nn.transformer import Block, Stack, initialise
from micro_transformer.nn.visibility import EVERYTHING
from tests.conftest import build


class Routed(FFN):
    """Top-1 of three experts with the balance loss E · Σ f_e P_e (Fedus et al., 2021, eq. 4)."""

    kinds = {"router": ROUTER, "up": EXPERTS, "down": EXPERTS}
    num_experts, coefficient = 3, 0.5

    def __init__(self, dims: Dims):
        super().__init__()
        experts, width = self.num_experts, dims.d_model
        self.router = nn.Parameter(torch.empty(experts, width))
        self.up = nn.Parameter(torch.empty(experts, 2 * width, width))
        self.down = nn.Parameter(torch.empty(experts, width, 2 * width))

    def residual(self, x: Tensor, context: Context, index: int) -> Tensor:
        return attach(self(x), self.coefficient * self.balance(x), context.aux_scale)

    def forward(self, x: Tensor) -> Tensor:
        gate, expert = self.shares(x).max(-1)
        outs = torch.einsum("btd,efd,egf->btge", x, self.up, self.down)
        chosen = expert[..., None, None].expand(*x.shape, 1)
        return outs.gather(-1, chosen).squeeze(-1) * gate[..., None]

    def shares(self, x: Tensor) -> Tensor:
        return F.linear(x, self.router).softmax(-1)

    def balance(self, x: Tensor) -> Tensor:
        shares = self.shares(x).flatten(0, 1)
        counts = F.one_hot(shares.argmax(-1), self.num_experts).to(shares.dtype)
        return self.num_experts * (counts.mean(0) * shares.mean(0)).sum()

    def residual_outputs(self) -> list[Tensor]:
        return [self.down]

    def active_params(self) -> int:
        return self.router.numel() + (self.up.numel() + self.down.numel()) // self.num_experts

    def flops_per_token(self) -> int:
        return 2 * self.active_params()


class LearnedBias(PositionalEncoding):
    """A learned bias per head and distance (after T5, Raffel et al., 2020)."""

    adds_bias = True

    def __init__(self, dims: Dims):
        super().__init__(dims)
        self.table = nn.Embedding(8, dims.num_heads)

    def bias(self, q_pos: Tensor, k_pos: Tensor) -> Tensor:
        distance = (q_pos[..., :, None] - k_pos[..., None, :]).abs().clamp(max=7)
        return self.table(distance).movedim(-1, -3)


class Encoder(Net):
    """An encoder, whose tokens see each other in both directions, with a head of three classes."""

    def __init__(self, dims: Dims):
        super().__init__()
        self.dims, self.posenc = dims, build("posenc", "rope", dims)
        self.embedding = nn.Embedding(dims.vocab_size, dims.d_model)
        blocks = [Block(dims, {"attention": self._attention(), "ffn": build("ffn", "gelu", dims)})]
        self.stack = Stack(dims, blocks)
        self.head = nn.Linear(dims.d_model, 3)
        initialise(self, self.stacks(), zero_init=False)

    def _attention(self) -> SelfAttention:
        return SelfAttention(self.dims, lambda: build("attention", "sdpa"))

    def stacks(self) -> list[Stack]:
        return [self.stack]

    def hidden(self, ids, cache=None, pos=None, aux_scale=None) -> Tensor:
        where = torch.arange(ids.shape[1]) if pos is None else pos
        sizes = {"batch": ids.shape[0], "num_heads": self.dims.num_heads}
        context = Context(self.posenc, EVERYTHING, where, **sizes, padded=pos is not None)
        context.aux_scale = aux_scale
        return self.stack(self.embedding(ids), context)

    def logits(self, hidden: Tensor) -> Tensor:
        return self.head(hidden)
