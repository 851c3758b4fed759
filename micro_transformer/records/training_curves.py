"""Validation loss of each training against what it cost: tokens, FLOPs and time."""

from dataclasses import dataclass, field

from micro_transformer.records.rows import Row

TOKENS, FLOPS, SECONDS = "tokens", "flops", "seconds"
COSTS = (TOKENS, FLOPS, SECONDS)


@dataclass
class Curve:
    """A training's evaluations. costs: of all steps up to each, by kind; a kind that is not known
    is in `lacks`, with the reason. length: steps that were planned; early stopping makes fewer."""

    seed: int
    length: int
    steps: list[int]
    losses: list[float]
    costs: dict[str, list[float]] = field(default_factory=dict)
    lacks: dict[str, str] = field(default_factory=dict)


@dataclass
class Configuration:
    """A row for all lengths of its training, each training once, and their curves."""

    row: Row
    curves: list[Curve]

    @property
    def flops_per_token(self) -> float | None:
        """Of the forward pass, attention over the context apart."""
        return next((f for r in self.row.ok if (f := r.size.get("flops_per_token"))), None)

    def known(self, cost: str) -> list[Curve]:
        """The curves with this cost."""
        return [curve for curve in self.curves if cost in curve.costs]
