"""Bars of a cost, such as the speed of decoding."""

from micro_transformer.plots.series import over_seeds
from micro_transformer.plots.style import COLOURS, HATCHES, Plot, axes_of, cut, finished, label
from micro_transformer.records.metrics import Measure
from micro_transformer.records.rows import Board
from micro_transformer.wording import _

MOST_BARS = 16


def speed_bars(board: Board, measure: Measure, setting: str) -> Plot | None:
    """One bar per configuration, ± std over its runs, best first; None if nothing was measured."""
    rows = [(row, s) for row in board.rows if (s := row.summary(measure.key, setting)).mean]
    rows.sort(key=lambda item: item[1].mean or 0.0, reverse=not measure.lower_is_better)
    shown = rows[:MOST_BARS]
    if not shown:
        return None
    with axes_of(7.2, 1.2 + 0.36 * len(shown)) as (figure, axes):
        for i, (_row, s) in enumerate(shown):
            k = i % len(COLOURS)
            axes.barh(
                i, s.mean, xerr=s.std or 0, color=COLOURS[k], hatch=HATCHES[k], edgecolor="white",
                error_kw={"ecolor": "#222222", "capsize": 3}, height=0.7,
            )  # fmt: skip
        axes.set_yticks(range(len(shown)), [f"{label(r.name)} (n = {s.n})" for r, s in shown])
        axes.set(xlabel=measure.title)
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
    better = "less" if measure.lower_is_better else "more"
    seeds = over_seeds(board.rows, [s.n for _, s in shown])
    note = _(
        "± std over seeds, {seeds}; {better} is better{rows}; {setting}",
        seeds=seeds,
        better=better,
        rows=cut(len(shown), len(rows)),
        setting=setting,
    )
    return finished(Plot("speed", _("Decoding speed"), note, figure))
