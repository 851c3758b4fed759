"""Differences between levels with their intervals."""

from collections.abc import Sequence

from micro_transformer.plots.style import Plot, axes_of, cut, finished, label
from micro_transformer.records.metrics import Measure
from micro_transformer.wording import _

MOST_EFFECTS = 24


def effects_plot(
    lines: Sequence[tuple[str, float, float, float, bool]], measure: Measure, n: str, where: str
) -> Plot | None:
    """Differences (name, value, low, high, found) with their 95 % intervals; filled where Holm's
    test found one. `n`, `where`: the seeds behind them and the machine, in words."""
    shown = list(lines)[:MOST_EFFECTS]
    if not shown:
        return None
    with axes_of(7.2, 1.4 + 0.34 * len(shown)) as (figure, axes):
        axes.axvspan(-measure.bound, measure.bound, color="#eeeeee", zorder=0)
        axes.axvline(0, color="#444444", linewidth=0.8)
        for i, (_name, value, low, high, found) in enumerate(shown):
            axes.plot([low, high], [i, i], color="#0072B2", linewidth=2)
            face = "#0072B2" if found else "white"
            axes.plot(value, i, "o", color="#0072B2", markerfacecolor=face)
        axes.set_yticks(range(len(shown)), [label(name) for name, *_ in shown])
        ratio = _("log ratio of {label}", label=measure.label)
        axes.set(xlabel=ratio if measure.is_ratio else f"{measure.title}, difference")
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
    better = "left" if measure.lower_is_better else "right"
    note = _(
        "95 % intervals, {n}; filled: a difference by Holm's test; {better} of 0: the "
        "first is better; grey band: negligible{lines}; {where}",
        n=n,
        better=better,
        lines=cut(len(shown), len(lines)),
        where=where,
    )
    return finished(Plot("effects", _("Effects on {label}", label=measure.label), note, figure))
