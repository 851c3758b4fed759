"""Mixture of experts: each token goes through k of E small FFNs, chosen by a learned router."""

import math

import torch
from torch import Tensor, nn

from micro_transformer.config.components import find
from micro_transformer.config.knobs import Count, NonNegative, Positive, Several
from micro_transformer.nn.auxiliary import attach
from micro_transformer.nn.context import Context
from micro_transformer.nn.dims import Dims
from micro_transformer.nn.ffn.base import FFN
from micro_transformer.nn.ffn.dense import Dense
from micro_transformer.nn.grouped import Layout, combine, gather, grouped_linear
from micro_transformer.nn.linear import Linear, one_row
from micro_transformer.nn.parameter_kinds import BIAS, EXPERTS, ROUTER

# B batch, T tokens, D model width, N real tokens, E experts, k of them per token, F hidden width of
# an expert, R output width of its first matrix, P rows in order of their experts (see Layout)


class Router(Linear):
    """Logits of the experts, a row of W per expert."""

    kinds = {"weight": ROUTER}


class MoE(FFN):
    """Σ g_e expert_e(x) over the top k of E experts by p = softmax(W x), with g = p / Σ p of these
    k (Jiang et al., 2024; equals a softmax over their logits).

    expert: the dense FFN of which each expert is one, by its kind, with hidden width d_ff / k: so a
    dense FFN of width d_ff has the same active parameters. Pads are not routed and count nowhere.

    balance_loss: coefficient of E Σ f_e P_e (Fedus et al., 2021, eq. 4), f_e the share of all
    choices, P_e the mean p_e; 1 when balanced; its gradient passes through P only. z_loss: of
    mean(logsumexp(W x)²) (Zoph et al., 2022, eq. 5). Both are means over the layers of a stack.

    capacity: None, or in training an expert takes at most ceil(capacity k N / E) tokens of a
    batch, first choices before second ones and then in order (Lepikhin et al., 2020); the others
    lose that expert. Evaluation drops none, so that no token depends on its neighbours.
    """

    has_router = True
    kinds = {"up": EXPERTS, "down": EXPERTS, "up_bias": BIAS, "down_bias": BIAS}
    relations = (("top_k", "at_most", "num_experts"),)

    def __init__(
        self,
        dims: Dims,
        *,
        num_experts: Several,
        top_k: Count,
        expert: str,
        balance_loss: NonNegative,
        z_loss: NonNegative,
        capacity: Positive | None = None,
    ):
        super().__init__()
        kind: type[Dense] = find("ffn", expert).load()
        self.num_experts, self.top_k, self.capacity = num_experts, top_k, capacity
        self.balance_loss, self.z_loss = balance_loss / dims.num_layers, z_loss / dims.num_layers
        self.activate = kind.activate
        rows, hidden = kind.widths(round(dims.d_ff / top_k))
        self.router = Router(dims.d_model, num_experts, bias=False)
        self.probabilities = nn.Identity()  # (N, E), read by probes
        self.up = nn.Parameter(torch.empty(num_experts, rows, dims.d_model))
        self.down = nn.Parameter(torch.empty(num_experts, dims.d_model, hidden))
        self.up_bias = _bias(num_experts, rows) if dims.bias else None
        self.down_bias = _bias(num_experts, dims.d_model) if dims.bias else None

    def residual(self, x: Tensor, context: Context, index: int) -> Tensor:
        return self(x, context.real, context.aux_scale)

    def forward(
        self, x: Tensor, real: Tensor | None = None, aux_scale: Tensor | None = None
    ) -> Tensor:
        """(B, T, D) -> (B, T, D). real: (B, T), False at pads, whose output is 0; None: no pads.
        aux_scale: as in Context."""
        if torch.is_autocast_enabled(x.device.type):
            x = x.to(torch.get_autocast_dtype(x.device.type))  # once, for router and experts
        logits = self.router(x)
        if real is None:
            # (N, D), (N, E) and back
            return self._mixed(x.flatten(0, -2), logits.flatten(0, -2), aux_scale).view_as(x)
        y = self._mixed(x[real], logits[real], aux_scale)  # (N, D)
        return y.new_zeros(x.shape).index_put((real,), y)

    def _mixed(self, x: Tensor, logits: Tensor, aux_scale: Tensor | None) -> Tensor:
        """(N, D), (N, E) -> (N, D)."""
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        probabilities = self.probabilities(logits.softmax(-1))
        gates, chosen = probabilities.topk(self.top_k, -1)  # (N, k)
        gates = gates / gates.sum(-1, keepdim=True)
        if len(x) == 1 and self._is_plain(x):
            return self._one_token(x, gates[0].tolist(), chosen[0].tolist())
        taken = self._taken(chosen)
        gates, counts = gates.T, taken.sum(1)  # (k, N), (E,)
        if self.training and self.capacity is not None:
            most = math.ceil(self.capacity * self.top_k * len(x) / self.num_experts)
            taken = taken & (taken.cumsum(1) <= most)
            gates = gates * taken.any(0).view_as(gates)  # (k, N)
        y = self._through_experts(x, gates, Layout.of(taken, self.top_k))
        return attach(y, self._auxiliary(logits, probabilities, counts), aux_scale)

    def _taken(self, chosen: Tensor) -> Tensor:
        """(N, k) -> (E, k N), whether an expert is chosen; first choices of all tokens first."""
        experts = torch.arange(self.num_experts, device=chosen.device)
        return chosen.T.flatten() == experts[:, None]  # (k N,) and (E, 1)

    def _through_experts(self, x: Tensor, gates: Tensor, layout: Layout) -> Tensor:
        """(N, D), gates (k, N) -> (N, D)."""
        rows = gather(x, layout)  # (P, D)
        hidden = self.activate(self._layer(rows, self.up, self.up_bias, layout))  # (P, F)
        return combine(self._layer(hidden, self.down, self.down_bias, layout), gates, layout)

    def _layer(self, x: Tensor, weight: Tensor, bias: Tensor | None, layout: Layout) -> Tensor:
        y = grouped_linear(x, weight.to(x.dtype), layout.sizes)
        return y if bias is None else y + layout.of_groups(bias.to(x.dtype))

    def _one_token(self, x: Tensor, gates: list[float], chosen: list[int]) -> Tensor:
        """(1, D) -> (1, D), with the weights read where they are."""
        y = torch.zeros_like(x)
        for gate, expert in zip(gates, chosen, strict=True):
            bias = None if self.up_bias is None else self.up_bias[expert]
            hidden = self.activate(one_row(self.up[expert], x, bias))
            bias = None if self.down_bias is None else self.down_bias[expert]
            y.add_(one_row(self.down[expert], hidden, bias), alpha=gate)
        return y

    def _is_plain(self, x: Tensor) -> bool:
        """Whether the token may take `_one_token`."""
        is_free = not (torch.is_grad_enabled() or torch.compiler.is_compiling())
        return is_free and x.device.type == "cpu" and x.dtype == self.up.dtype

    def _auxiliary(self, logits: Tensor, probabilities: Tensor, counts: Tensor) -> Tensor:
        """The weighted sum of both losses, a scalar. counts: (E,), choices of each expert."""
        shares = counts / counts.sum().clamp(min=1)
        balance = self.num_experts * (shares * probabilities.mean(0)).sum()
        z = logits.logsumexp(-1).square().mean()
        return self.balance_loss * balance + self.z_loss * z

    def residual_outputs(self) -> list[Tensor]:
        return [self.down]

    def active_params(self) -> int:
        router = self.router.weight.numel()
        all_experts = sum(p.numel() for p in self.parameters()) - router
        return router + self.top_k * all_experts // self.num_experts

    def flops_per_token(self) -> int:
        each = (self.up.numel() + self.down.numel()) // self.num_experts
        return 2 * (self.router.weight.numel() + self.top_k * each)


def _bias(num_experts: int, width: int) -> nn.Parameter:
    return nn.Parameter(torch.empty(num_experts, width))
