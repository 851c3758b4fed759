"""Validation loss against what the training cost: tokens, FLOPs and time."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

from micro_transformer.plots.series import Series, over_seeds
from micro_transformer.plots.style import (
    COLOURS,
    MOST_LINES,
    Plot,
    axes_of,
    cut,
    finished,
    label,
    legend_below,
    line,
)
from micro_transformer.records.metrics import LOSS
from micro_transformer.records.training_curves import FLOPS, SECONDS, TOKENS, Configuration, Curve
from micro_transformer.stats.budgets import Budget
from micro_transformer.wording import N_, _, translate

AXES = {
    TOKENS: N_("Training tokens"),
    FLOPS: N_("Training FLOPs"),
    SECONDS: N_("Training time (s)"),
}


def loss_by_cost(
    found: Sequence[Configuration], budgets: Sequence[Budget], where: str
) -> Plot | None:
    """A panel a cost that is known, a line a configuration; None without curves."""
    known = [c for c in found if c.curves]
    shown = known[:MOST_LINES]
    drawn = [budget for budget in budgets if any(c.known(budget.cost) for c in shown)]
    if not drawn:
        return None
    with axes_of(1 + 3.5 * len(drawn), 4.6, len(drawn)) as (figure, columns):
        panels = np.atleast_1d(columns)
        for axes, budget in zip(panels, drawn, strict=True):
            axes.sharey(panels[0])
            axes.set(xlabel=translate(AXES[budget.cost]), xscale="log")
            for i, configuration in enumerate(shown):
                _draw(axes, i, configuration, budget.cost)
            for limit in sorted(set(budget.by_seed.values())):
                axes.axvline(limit, color="#666666", linewidth=0.8)
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.xaxis.set_major_formatter(EngFormatter(sep=""))
            axes.xaxis.set_minor_formatter(NullFormatter())
        panels[0].set(ylabel=LOSS.title)
        legend_below(figure, panels[0])
    seeds = [len({curve.seed for curve in c.curves}) for c in shown]
    note = _(
        "Mean, band ± std over seeds, {seeds}; vertical: the budget, of each seed; hollow: the end "
        "of a training with fewer steps",
        seeds=over_seeds([c.row for c in shown], seeds),
    )
    note += f"{cut(len(shown), len(known))}; {where}"
    return finished(Plot("loss_by_cost", _("Loss against tokens, FLOPs and time"), note, figure))


def _draw(axes: Any, i: int, configuration: Configuration, cost: str) -> None:
    """The longest trainings as a line, the ends of others as points."""
    lines = list(_by_length(configuration.known(cost), cost))
    if not lines:
        return
    *shorter, longest = lines
    look = line(i)
    name, every = label(configuration.row.name), 1 + len(longest.x) // 9
    axes.plot(longest.x, longest.mean, **look, markevery=every, label=name)
    band = {"color": COLOURS[i % len(COLOURS)], "alpha": 0.18, "linewidth": 0}
    low, high = longest.mean - longest.std, longest.mean + longest.std
    axes.fill_between(longest.x, low, high, **band)
    for s in shorter:
        hollow = look | {"linestyle": "none", "markerfacecolor": "white", "markersize": 7}
        axes.errorbar(s.x[-1], s.mean[-1], yerr=np.nan_to_num(s.std[-1]), capsize=3, **hollow)


def _by_length(curves: Sequence[Curve], cost: str) -> Iterator[Series]:
    """A line for each length of training, the shortest first, on the steps that all seeds have."""
    for length in sorted({curve.length for curve in curves}):
        alike = [curve for curve in curves if curve.length == length]
        steps = sorted(set.intersection(*(set(curve.steps) for curve in alike)))
        points = [
            [(curve.costs[cost][k], curve.losses[k]) for k in map(curve.steps.index, steps)]
            for curve in alike
        ]
        if steps:
            costs, losses = np.array(points).transpose(2, 0, 1)
            yield Series(costs.mean(0), losses)
