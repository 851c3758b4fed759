"""LoRA: low-rank updates of attention matrices."""

import math
from collections.abc import Sequence
from typing import Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from micro_transformer.config.knobs import Count, Positive
from micro_transformer.nn.adapters.base import Adapter
from micro_transformer.nn.arch.base import Net
from micro_transformer.nn.linear import Linear
from micro_transformer.nn.parameter_kinds import ADAPTER
from micro_transformer.nn.sublayer import SubLayer
from micro_transformer.wording import _

# r rank, n adapted slices of a linear layer, in and out: its widths


class LoRA(Adapter):
    """W + (alpha / rank) B A for the chosen attention matrices (Hu et al., 2021, eq. 3).

    targets: which of q, k, v and out, in every self- and cross-attention; each has its own A and B.
    rank: of an update, at most the width of its matrix. alpha: the update's scale is alpha / rank,
    so that the best rate changes little with the rank. lr: peak learning rate of A and B, in place
    of the recipe's. At step 0 the outputs are the base's, as B is 0.
    """

    def __init__(
        self,
        *,
        rank: Count,
        alpha: Positive,
        targets: list[Literal["q", "k", "v", "out"]],
        lr: Positive,
    ):
        self.rank, self.scale, self.targets, self.lr = rank, alpha / rank, targets, lr

    def insert(self, net: Net) -> None:
        for block in net.blocks():
            for _norm, sublayer in block.branches():
                self._adapt(sublayer)

    def _adapt(self, sublayer: SubLayer) -> None:
        slices: dict[str, list[range]] = {}
        for name, (layer, rows) in sublayer.projections().items():
            if name in self.targets:
                slices.setdefault(layer, []).append(rows)
        for layer, found in slices.items():
            adapted = LoRALinear(getattr(sublayer, layer), found, self.rank, self.scale, self.lr)
            setattr(sublayer, layer, adapted)

    def merge(self, net: Net) -> None:
        for module in net.modules():
            if isinstance(module, LoRALinear):
                module.merge()


class LoRALinear(Linear):
    """A linear layer whose slices of rows have low-rank updates; W keeps its name, `weight`.

    lora_a: (n·r, in), one A after the other, initialised as a linear layer of torch. lora_b: (rows
    of all slices, r), 0. `merge` adds the update to W and `unmerge` takes it off; both do nothing
    the second time. Training mode unmerges; a state dict always has the W of the base.
    """

    kinds = {"lora_a": ADAPTER, "lora_b": ADAPTER}
    slot: Tensor

    def __init__(
        self, linear: nn.Linear, slices: Sequence[range], rank: int, scale: float, lr: float
    ):
        narrowest = min(linear.in_features, *map(len, slices))
        if rank > narrowest:
            raise ValueError(
                _("adapter.rank={rank}: above the width {n}; lower it", rank=rank, n=narrowest)
            )
        sizes = linear.in_features, linear.out_features
        super().__init__(*sizes, bias=linear.bias is not None, device="meta")
        self.weight, self.bias = linear.weight, linear.bias
        self.scale, self.lr, self.merged = scale, lr, False
        a = torch.empty(len(slices) * rank, linear.in_features)
        for each in a.split(rank):  # (r, in) each
            nn.init.kaiming_uniform_(each, a=math.sqrt(5))
        device, dtype = linear.weight.device, linear.weight.dtype
        rows = torch.cat([torch.arange(each.start, each.stop) for each in slices])
        owner = torch.arange(len(slices)).repeat_interleave(torch.tensor([len(s) for s in slices]))
        self.lora_a = nn.Parameter(a.to(device, dtype))
        self.lora_b = nn.Parameter(torch.zeros(len(rows), rank, device=device, dtype=dtype))
        # Where row i of lora_b is in the (out, n·r) matrix of all slices
        slot = rows[:, None] * len(a) + owner[:, None] * rank + torch.arange(rank)
        # (rows, r), then (rows·r,)
        self.register_buffer("slot", slot.flatten().to(device), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        out = super().forward(x)
        if self.merged:
            return out
        low = F.linear(x, self.lora_a)  # (..., n·r)
        b = self._wide_b().to(low.dtype)
        # (tokens, out), then (..., out)
        return torch.addmm(out.flatten(0, -2), low.flatten(0, -2), b.mT).view_as(out)

    def _wide_b(self) -> Tensor:
        """(out, n·r): scale · B of each slice in its rows and its columns, 0 elsewhere."""
        wide = self.lora_b.new_zeros(self.out_features * len(self.lora_a))
        scaled = self.scale * self.lora_b
        # (out·n·r,), then (out, n·r)
        return wide.index_copy(0, self.slot, scaled.flatten()).view(self.out_features, -1)

    def update(self) -> Tensor:
        """(out, in): what is added to W."""
        return self._wide_b() @ self.lora_a

    @torch.no_grad()
    def merge(self) -> None:
        """W has the update, and the layer costs what it did without."""
        if not self.merged:
            self.weight += self.update()
            self.merged = True

    @torch.no_grad()
    def unmerge(self) -> None:
        """W is the base's again, to rounding."""
        if self.merged:
            self.weight -= self.update()
            self.merged = False

    def train(self, mode: bool = True) -> Self:
        if mode:
            self.unmerge()
        return super().train(mode)

    def _save_to_state_dict(self, destination, prefix, keep_vars):  # type: ignore[no-untyped-def]
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if self.merged:
            base = self.weight.detach() - self.update().detach()
            destination[f"{prefix}weight"] = nn.Parameter(base, self.weight.requires_grad)

    def _load_from_state_dict(self, *args):  # type: ignore[no-untyped-def]
        self.unmerge()
        super()._load_from_state_dict(*args)
