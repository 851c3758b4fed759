"""The loss of each configuration at equal tokens, equal FLOPs and equal time."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from micro_transformer.records.metrics import LOSS
from micro_transformer.records.rows import Board
from micro_transformer.records.training_curves import SECONDS, Configuration, Curve
from micro_transformer.stats.effects import Effects, compare
from micro_transformer.stats.error_strata import Value
from micro_transformer.wording import _

CLOSE = 0.95  # a training that costs at least this share of a budget uses it
WITHIN = 1.005  # one of this share is still within it: a router's FLOPs are 0.3 % of a net's


@dataclass(frozen=True)
class Reading:
    """The lowest loss within a budget, of trainings of any length. is_fair: a whole training uses
    the budget. Else one with a schedule for this budget would do better: the loss is from a much
    shorter training, or from inside a longer one whose rate had not decayed."""

    loss: float
    is_fair: bool


@dataclass(frozen=True)
class Budget:
    """A budget of each paired seed: what the cheapest configuration cost with this seed, each at
    its longest training. A time when the machine is slow so falls on all configurations."""

    cost: str
    by_seed: dict[int, float]


def budget(found: Iterable[Configuration], cost: str) -> Budget:
    """The budget on the seeds that all configurations with this cost have."""
    ends: list[dict[int, float]] = []
    for curves in (known for c in found if (known := c.known(cost))):
        longest: dict[int, float] = {}
        for curve in curves:
            longest[curve.seed] = max(longest.get(curve.seed, 0.0), curve.costs[cost][-1])
        ends.append(longest)
    shared = set.intersection(*map(set, ends)) if ends else set()
    return Budget(cost, {seed: min(end[seed] for end in ends) for seed in sorted(shared)})


def readings(configuration: Configuration, budget: Budget) -> dict[int, Reading]:
    """Maps seed -> reading, for the paired seeds with an evaluation within the budget."""
    found = {}
    for seed, limit in budget.by_seed.items():
        curves = [c for c in configuration.known(budget.cost) if c.seed == seed]
        if reading := _reading(curves, budget.cost, limit):
            found[seed] = reading
    return found


def steps_within(configuration: Configuration, budget: Budget) -> int:
    """Steps of a training that would use the budget: all of it; of a time, which varies, the middle
    of what is close. 0 if no paired seed was trained."""
    known = [c for c in configuration.known(budget.cost) if c.seed in budget.by_seed]
    steps = [budget.by_seed[c.seed] * c.steps[-1] / c.costs[budget.cost][-1] for c in known]
    share = (1 + CLOSE) / 2 if budget.cost == SECONDS else 1
    return int(share * min(steps, default=0))


def contrasts(board: Board, found: Sequence[Configuration], budget: Budget) -> Effects:
    """Every pair of configurations within a budget; none on a board of mixed records."""
    effects = Effects(LOSS)
    effects.notes = [_("Not compared: {what}.", what=what) for what in board.mixed]
    values = [
        Value((c.row.name,), seed, f"{c.row.name} {seed}", reading.loss)
        for c in found
        for seed, reading in readings(c, budget).items()
    ]
    return compare([_("Config")], values, effects) if values and not board.mixed else effects


def _reading(curves: Sequence[Curve], cost: str, limit: float) -> Reading | None:
    losses = [
        loss
        for curve in curves
        for spent, loss in zip(curve.costs[cost], curve.losses, strict=True)
        if spent <= WITHIN * limit
    ]
    is_fair = any(CLOSE <= curve.costs[cost][-1] / limit <= WITHIN for curve in curves)
    return Reading(min(losses), is_fair) if losses else None
