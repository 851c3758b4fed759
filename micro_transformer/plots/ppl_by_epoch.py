"""Validation perplexity while training."""

import numpy as np

from micro_transformer.plots.series import Series, distinct, first_of, history, over_seeds
from micro_transformer.plots.style import (
    COLOURS,
    Plot,
    axes_of,
    cut,
    finished,
    legend_below,
    line,
    plain_log,
)
from micro_transformer.records.rows import Board, Row
from micro_transformer.wording import _


def ppl_by_epoch(board: Board) -> Plot | None:
    """PPL against epoch, mean and ± std over seeds; None without curves."""
    found = distinct(board, _ppl)
    shown = first_of(found)
    if not shown:
        return None
    with axes_of(7.2, 4.6) as (figure, axes):
        for i, s in enumerate(shown):
            axes.plot(s.x, s.mean, **line(i), markevery=0.12, label=s.name)
            band = {"color": COLOURS[i % len(COLOURS)], "alpha": 0.18, "linewidth": 0}
            axes.fill_between(s.x, s.mean - s.std, s.mean + s.std, **band)
        axes.set(xlabel=_("Epoch"), ylabel=_("Validation PPL"), yscale="log")
        plain_log(axes.yaxis)
        legend_below(figure, axes)
    note = _(
        "Mean, band ± std over seeds, {value}", value=over_seeds(board.rows, [s.n for s in shown])
    )
    note += f"{cut(len(shown), len(found))}; {'; '.join(board.settings)}"
    return finished(Plot("ppl_by_epoch", _("PPL against epoch"), note, figure))


def _ppl(row: Row) -> Series | None:
    found = history(row, "val/loss", "epoch")
    return found and Series(found.x, np.exp(np.minimum(found.values, 700)))
