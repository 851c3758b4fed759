"""Optimizers with learning-rate schedule and mixed precision: AdamW for all parameters, or Muon for
matrices and expert stacks and AdamW for the rest.
"""

import math
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from micro_transformer.config.sections import Train
from micro_transformer.nn.parameter_kinds import own_rates, parameter_kinds
from micro_transformer.training.muon import Muon

# State of a parameter in each optimizer, as a snapshot must have it.
STATE_KEYS = {"adamw": {"step", "exp_avg", "exp_avg_sq"}, "muon": {"momentum_buffer"}}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Optimizers:
    """One or two optimizers with a common schedule. The gradient scaler of fp16 sees them as one
    optimizer, so that a non-finite gradient skips the step of both.
    """

    def __init__(self, model: nn.Module, recipe: Train, device: str):
        self.model, self.recipe, self.device = model, recipe, device
        self.scaler = torch.amp.GradScaler(device, enabled=recipe.precision == "fp16")
        orthogonalized, groups = _partition(model, recipe)
        beta1, beta2 = recipe.betas
        self.members: dict[str, torch.optim.Optimizer] = {
            "adamw": torch.optim.AdamW(groups, lr=recipe.lr, betas=(beta1, beta2), fused=True)
        }
        if orthogonalized:
            self.members["muon"] = Muon(
                orthogonalized,
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

    def scaled(self, factor: float) -> Tensor:
        """factor times the loss scale of fp16, a scalar on the device."""
        return self.scaler.scale(torch.tensor(factor, device=self.device))

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
        """Whether the state can be that after `step` steps: entries have all keys and the shape of
        their parameter; an optimizer without any is right at step 0 and where fp16 skips steps."""
        entries = [
            (STATE_KEYS[name], parameter, entry)
            for name, member in self.members.items()
            for parameter, entry in member.state.items()
        ]
        is_whole = all(
            entry.keys() == keys and all(x.shape in ((), parameter.shape) for x in entry.values())
            for keys, parameter, entry in entries
        )
        is_begun = all(member.state for member in self.members.values())
        return is_whole and (is_begun or step == 0 or self.scaler.is_enabled())

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


def _partition(model: nn.Module, recipe: Train) -> tuple[list[Tensor], list[dict[str, Any]]]:
    """(parameters for Muon, groups for AdamW by weight decay and learning rate), by their kinds and
    rates (see nn/parameter_kinds.py). Frozen parameters are in none."""
    kinds, rates = dict(parameter_kinds(model)), own_rates(model)
    orthogonalized: list[Tensor] = []
    groups: dict[tuple[float, bool], list[Tensor]] = {(recipe.lr, d): [] for d in (True, False)}
    for parameter in model.parameters():
        if parameter.requires_grad:
            kind, rate = kinds[parameter], rates.get(parameter, recipe.lr)
            if recipe.optimizer == "muon" and kind.orthogonalized:
                orthogonalized.append(parameter)
            else:
                groups.setdefault((rate, kind.decays), []).append(parameter)
    return orthogonalized, [
        {"params": found, "lr": rate, "weight_decay": recipe.weight_decay if decays else 0.0}
        for (rate, decays), found in groups.items()
        if found
    ]
