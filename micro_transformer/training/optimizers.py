"""Optimizers with learning-rate schedule and mixed precision: AdamW for all parameters, or Muon for
the matrices and AdamW for the rest.
"""

import math
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from micro_transformer.config.sections import Train
from micro_transformer.training.muon import Muon

# What each member keeps of a parameter, as a stored state must have it.
KEPT = {"adamw": {"step", "exp_avg", "exp_avg_sq"}, "muon": {"momentum_buffer"}}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Optimizers:
    """One or two optimizers with a common schedule. The gradient scaler of fp16 sees them as one
    optimizer, so that a non-finite gradient skips the step of both.
    """

    def __init__(self, model: nn.Module, recipe: Train, device: str):
        self.model, self.recipe, self.device = model, recipe, device
        self.scaler = torch.amp.GradScaler(device, enabled=recipe.precision == "fp16")
        matrices, decayed, others = _partition(model, recipe.optimizer == "muon")
        groups = [
            {"params": decayed, "weight_decay": recipe.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]
        beta1, beta2 = recipe.betas
        groups = [group for group in groups if group["params"]]
        self.members: dict[str, torch.optim.Optimizer] = {
            "adamw": torch.optim.AdamW(groups, lr=recipe.lr, betas=(beta1, beta2), fused=True)
        }
        if matrices:
            self.members["muon"] = Muon(
                matrices,
                lr=recipe.matrix_lr,
                weight_decay=recipe.weight_decay,
                dtype=DTYPES[recipe.matrix_dtype],
            )
        self._full_rates = {
            name: [group["lr"] for group in member.param_groups]
            for name, member in self.members.items()
        }

    def set_rate(self, step: int) -> float:
        """Learning rates are set for optimizer step `step` (from 0); returns AdamW's."""
        factor = rate_factor(step, self.recipe)
        for name, member in self.members.items():
            for group, rate in zip(member.param_groups, self._full_rates[name], strict=True):
                group["lr"] = rate * factor
        return self.recipe.lr * factor

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Parameter groups of all optimizers."""
        return [group for member in self.members.values() for group in member.param_groups]

    def step(self) -> None:
        """Every optimizer has made one step."""
        for member in self.members.values():
            member.step()

    def autocast(self) -> AbstractContextManager[Any]:
        """The context of a forward pass in the recipe's precision."""
        if self.recipe.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.device, dtype=DTYPES[self.recipe.precision])

    def backward(self, loss: Tensor) -> None:
        """Gradients of the loss are accumulated, multiplied by the loss scale in fp16."""
        self.scaler.scale(loss).backward()

    def update(self) -> float | None:
        """The weights are updated, unless fp16 gradients overflowed; gradients are cleared. Returns
        the gradient norm before clipping; None without clipping or on an overflow.
        """
        norm = None
        self.scaler.unscale_(self)  # type: ignore[arg-type]
        if self.recipe.clip is not None:
            norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip).item()
        self.scaler.step(self)  # type: ignore[arg-type]
        self.scaler.update()
        self.model.zero_grad(set_to_none=True)
        skipped = self.scaler.is_enabled() and norm is not None and not math.isfinite(norm)
        return None if skipped else norm

    def state(self) -> dict[str, Tensor]:
        """All state tensors of the optimizers, by name `<optimizer>.<parameter index>.<key>`."""
        return {
            f"{name}.{index}.{key}": value
            for name, member in self.members.items()
            for index, entry in member.state_dict()["state"].items()
            for key, value in entry.items()
        }

    def fit(self, step: int) -> bool:
        """Whether the state is one that `step` steps leave: every entry whole, of the parameter's
        shape, and none missing but where fp16 has skipped steps."""
        entries = [
            (KEPT[name], parameter, entry)
            for name, member in self.members.items()
            for parameter, entry in member.state.items()
        ]
        whole = all(
            entry.keys() == kept and all(x.shape in ((), parameter.shape) for x in entry.values())
            for kept, parameter, entry in entries
        )
        is_begun = all(member.state for member in self.members.values())
        return whole and (is_begun or step == 0 or self.scaler.is_enabled())

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """The optimizers have the state that `state` returned."""
        for name, member in self.members.items():
            state: dict[int, dict[str, Any]] = {}
            for path, value in tensors.items():
                owner, index, key = path.split(".")
                if owner == name:
                    state.setdefault(int(index), {})[key] = value
            member.load_state_dict({**member.state_dict(), "state": state})


def rate_factor(step: int, recipe: Train) -> float:
    """Fraction of the peak learning rate at `step`: linear warm-up (above 0 at step 0), constant,
    then cosine or linear decay to min_lr_ratio."""
    if step < recipe.warmup_steps:
        return (step + 1) / recipe.warmup_steps
    start = max(recipe.warmup_steps, recipe.decay_from * recipe.steps)
    done = min(1.0, max(0.0, (step - start) / max(1, recipe.steps - start)))
    shape = {"cosine": (1 + math.cos(math.pi * done)) / 2, "linear": 1 - done}[recipe.decay]
    return recipe.min_lr_ratio + (1 - recipe.min_lr_ratio) * shape


def _partition(model: nn.Module, muon: bool) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """(matrices for Muon, matrices for AdamW with weight decay, parameters without decay). The
    embedding and output tables count as non-matrices."""
    tables = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    tables |= {id(weight) for weight in getattr(model, "output_weights", list)()}
    matrices: list[Tensor] = []
    decayed: list[Tensor] = []
    others: list[Tensor] = []
    for parameter in model.parameters():
        if not parameter.requires_grad:
            continue
        is_matrix = parameter.ndim == 2 and id(parameter) not in tables
        (matrices if is_matrix and muon else decayed if is_matrix else others).append(parameter)
    return matrices, decayed, others
