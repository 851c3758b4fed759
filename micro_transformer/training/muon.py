"""Muon (Jordan et al., 2024) for weight matrices: the update is the momentum, orthogonalized (all
singular values near 1) by Newton-Schulz iterations.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

# Shapes: (n, A, B) with A <= B is a batch of n matrices of equal shape; E experts.


class Muon(torch.optim.Optimizer):
    """torch's Muon with three differences: the dtype of Newton-Schulz is configurable (torch uses
    bf16 even on CPUs that emulate it), matrices of equal shape are processed in one batch, and an
    expert stack (E, out, in) is E matrices.
    """

    def __init__(
        self, params: Iterable[Tensor], *, lr: float, weight_decay: float, dtype: torch.dtype
    ):
        # torch's constructor refuses stacks: only its defaults are taken
        torchs = torch.optim.Muon([torch.empty(1, 1)], lr=lr, weight_decay=weight_decay)
        super().__init__(params, torchs.defaults)
        self.dtype = dtype

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Every matrix that has a gradient is updated by one step."""
        for group in self.param_groups:
            for alike in _by_shape(p for p in group["params"] if p.grad is not None):
                updates = [_batched(self._momentum(p, group)) for p in alike]
                steps = orthogonal(torch.cat(updates), self.dtype, group)
                for p, step in zip(alike, steps.split([len(u) for u in updates]), strict=True):
                    rows, columns = p.shape[-2:]
                    factor = max(1, rows / columns) ** 0.5
                    p.mul_(1 - group["lr"] * group["weight_decay"])
                    step = step if step.shape[-2:] == p.shape[-2:] else step.mT
                    p.add_(step.view_as(p), alpha=-group["lr"] * factor)

    def _momentum(self, p: Tensor, group: dict[str, Any]) -> Tensor:
        """Nesterov momentum after adding this gradient to the momentum buffer."""
        grad, state = p.grad, self.state[p]
        assert grad is not None
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(grad)
        state["momentum_buffer"].lerp_(grad, 1 - group["momentum"])
        return grad.lerp(state["momentum_buffer"], group["momentum"])


def orthogonal(x: Tensor, dtype: torch.dtype, knobs: dict[str, Any]) -> Tensor:
    """(n, A, B) -> (n, A, B): same singular vectors, singular values near 1 (0.7 to 1.2), computed
    in `dtype`. knobs: ns_coefficients, ns_steps, eps."""
    a, b, c = knobs["ns_coefficients"]
    x = (x / x.norm(dim=(1, 2), keepdim=True).clamp(min=knobs["eps"])).to(dtype)
    for _ in range(knobs["ns_steps"]):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x


def _by_shape(parameters: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    """The parameters grouped by the shape of their matrices in `_batched`."""
    found: dict[tuple[int, ...], list[Tensor]] = {}
    for p in parameters:
        found.setdefault(_batched(p).shape[1:], []).append(p)
    yield from found.values()


def _batched(x: Tensor) -> Tensor:
    """(A, B) or (B, A) -> (1, A, B) with A <= B, transposed if tall; (E, …) -> (E, A, B)."""
    x = x.mT if x.shape[-2] > x.shape[-1] else x
    return x if x.ndim == 3 else x[None]
