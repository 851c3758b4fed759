"""Perplexity against the size of the net."""

from collections.abc import Sequence

import numpy as np
from matplotlib.ticker import NullFormatter

from micro_transformer.plots.style import Plot, axes_of, finished, plain_log
from micro_transformer.stats.power_law import PowerLaw
from micro_transformer.wording import _


def scaling_plot(xs: Sequence[float], ys: Sequence[float], law: PowerLaw, where: str) -> Plot:
    """PPL against parameters, log-log, with the line and the error of its slope."""
    sizes = sorted(set(xs))
    with axes_of(6.4, 4.4) as (figure, axes):
        axes.plot(xs, ys, "o", color="#0072B2", markerfacecolor="white", label="runs")
        line = np.geomspace(min(xs), max(xs), 50)
        text = _(
            "PPL ∝ params^{exponent:.3f} (95 %: {low:.3f} to {high:.3f})",
            exponent=law.exponent,
            low=law.low,
            high=law.high,
        )
        axes.plot(line, law.at(line), "--", color="#D55E00", label=text)
        axes.set(xlabel=_("Parameters"), ylabel=_("Validation PPL"), xscale="log", yscale="log")
        plain_log(axes.yaxis)
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xticks(sizes, [f"{x / 1e6:.3g} M" for x in sizes])
        axes.legend(fontsize=8, loc="upper right")  # "best" warns when the machine is slow
    note = _(
        "n = {xs} runs of {sizes} sizes; the error is that of the means of the sizes ",
        xs=len(xs),
        sizes=law.sizes,
    )
    note += _("around the line; {where}", where=where)
    return finished(Plot("scaling", _("PPL against parameters"), note, figure))
