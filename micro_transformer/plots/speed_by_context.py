"""Decoding speed by context length."""

import numpy as np

from micro_transformer.plots.series import at_places, distinct, first_of, over_seeds
from micro_transformer.plots.style import (
    COLOURS,
    Plot,
    axes_of,
    cut,
    finished,
    legend_below,
    line,
    token_axis,
)
from micro_transformer.records.metrics import places
from micro_transformer.records.rows import Board
from micro_transformer.wording import _


def speed_by_context(board: Board, setting: str) -> Plot | None:
    """Tokens per second by context, mean ± std over seeds; None for fewer than two contexts."""
    there = {key for r in board.records for key in (*r.metrics, *r.cost)}
    keys = places(there, "cache/tokens_per_s")
    found = distinct(board, lambda row: at_places(row, keys, setting))
    shown = first_of(found)
    if not shown or len(keys) < 2:
        return None
    with axes_of(7.2, 4.8) as (figure, axes):
        for i, s in enumerate(shown):
            axes.errorbar(s.x, s.mean, yerr=np.nan_to_num(s.std), capsize=2, elinewidth=0.8,
                          ecolor=COLOURS[i % len(COLOURS)], label=s.name, **line(i))  # fmt: skip
        token_axis(axes, list(keys))
        axes.set_ylim(bottom=0)
        axes.set(xlabel=_("Context (tokens)"), ylabel=_("Tokens/s, more is better"))
        legend_below(figure, axes)
    note = _("Mean ± std over seeds, {value}", value=over_seeds(board.rows, [s.n for s in shown]))
    note += f"{cut(len(shown), len(found))}; {setting}"
    return finished(Plot("speed_by_context", _("Decoding speed against context"), note, figure))
