"""Quality against the number of trained parameters, as adapters trade them."""

from collections.abc import Sequence

from matplotlib.ticker import FuncFormatter, LogLocator

from micro_transformer.plots.series import over_seeds
from micro_transformer.plots.style import (
    COLOURS,
    MARKERS,
    Plot,
    axes_of,
    cut,
    finished,
    label,
    legend_below,
)
from micro_transformer.records.metrics import Measure
from micro_transformer.records.rows import Row
from micro_transformer.wording import _

MOST_POINTS = 16


def quality_by_trainable(
    counts: Sequence[tuple[Row, int]], quality: Measure, chance: float | None
) -> Plot | None:
    """One point per row with its number of trainable parameters, ± std over seeds, and a line for
    the majority baseline if there is one; None for fewer than two rows with the quality."""
    known = [(row, n, s) for row, n in counts if (s := row.summary(quality.key)).mean is not None]
    shown = known[:MOST_POINTS]
    if len(shown) < 2:
        return None
    with axes_of(7.2, 3.6 + 0.2 * len(shown)) as (figure, axes):
        for i, (row, trained, s) in enumerate(shown):
            k = i % len(COLOURS)
            marker = MARKERS[(i + 3 * (i // len(COLOURS))) % len(MARKERS)]
            axes.errorbar(
                trained, s.mean, yerr=s.std or 0, color=COLOURS[k], marker=marker, linestyle="none",
                markersize=7, capsize=3, label=f"{label(row.name)} ({trained:,})",
            )  # fmt: skip
        if chance is not None:
            name = _("majority class ({share:.3f})", share=chance)
            axes.axhline(chance, color="#666666", linestyle="--", label=name)
        axes.set(xlabel=_("Trained parameters"), ylabel=quality.title, xscale="log")
        axes.margins(x=0.1)
        axes.xaxis.set_major_locator(LogLocator(subs=(1,)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        legend_below(figure, axes)
    better = _("less is better") if quality.lower_is_better else _("more is better")
    note = _(
        "± std over seeds, {seeds}; {better}{rows}",
        seeds=over_seeds([row for row, _n, _s in shown], [s.n for _row, _n, s in shown]),
        better=better,
        rows=cut(len(shown), len(known)),
    )
    title = _("{quality} against trained parameters", quality=quality.label)
    return finished(Plot("trained-parameters", title, note, figure))
