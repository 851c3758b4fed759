"""Perplexity by the number of tokens before the target."""

import numpy as np

from micro_transformer.plots.series import at_places, distinct, first_of, missing, over_seeds
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
from micro_transformer.records.metrics import stretches
from micro_transformer.records.rows import Board, value_of
from micro_transformer.wording import _


def ppl_by_stretch(board: Board) -> Plot | None:
    """PPL of each stretch of the context, mean ± std over seeds; None unless two stretches have
    one. A configuration that cannot be measured in a stretch has no point there."""
    there = stretches({key for r in board.records for key in r.metrics})
    keys = dict(enumerate(there.values()))
    found = distinct(board, lambda row: at_places(row, keys))
    shown = first_of(found)
    if not shown or len(keys) < 2:
        return None
    with axes_of(7.2, 4.8) as (figure, axes):
        shift = np.linspace(-0.12, 0.12, len(shown)) if len(shown) > 1 else [0.0]
        for i, s in enumerate(shown):
            colour = COLOURS[i % len(COLOURS)]
            axes.errorbar(s.x + shift[i], s.mean, yerr=np.nan_to_num(s.std), capsize=2,
                          elinewidth=0.8, ecolor=colour, label=s.name, **line(i))  # fmt: skip
        means = np.concatenate([s.mean for s in shown])
        if np.nanmax(means) > 5 * np.nanmin(means):
            axes.set_yscale("log", nonpositive="clip")
            plain_log(axes.yaxis)
        axes.set_xticks(list(keys), [_tick(board, name) for name in there])
        axes.set(xlabel=_("Position of the target (tokens before it)"), ylabel=_("PPL"))
        legend_below(figure, axes)
    note = _("Mean ± std over seeds, {value}", value=over_seeds(board.rows, [s.n for s in shown]))
    note += f"{cut(len(shown), len(found))}{missing(board, keys.values())}"
    note += f"; {'; '.join(board.settings)}"
    return finished(Plot("ppl_by_stretch", _("PPL by position"), note, figure))


def _tick(board: Board, name: str) -> str:
    counts = [int(n) for r in board.records if (n := value_of(r, f"n/{name}"))]
    return f"{name}\n{max(counts):,} targets" if counts else name
