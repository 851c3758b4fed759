"""The same targets under growing context."""

from micro_transformer.plots.series import at_places, distinct, first_of, missing, over_seeds
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
from micro_transformer.records.rows import Board, value_of
from micro_transformer.wording import _


def loss_by_context(board: Board) -> Plot | None:
    """Loss of the same targets against the length of the context, mean with ± std band over seeds;
    None unless two lengths have one. A line ends where a net cannot read further."""
    keys = places({key for r in board.records for key in r.metrics}, "context/loss")
    found = distinct(board, lambda row: at_places(row, keys))
    shown = first_of(found)
    if not shown or len(keys) < 2:
        return None
    with axes_of(7.2, 4.8) as (figure, axes):
        for i, s in enumerate(shown):
            axes.plot(s.x, s.mean, **line(i), label=s.name)
            band = {"color": COLOURS[i % len(COLOURS)], "alpha": 0.18, "linewidth": 0}
            axes.fill_between(s.x, s.mean - s.std, s.mean + s.std, **band)
        token_axis(axes, list(keys))
        axes.set(xlabel=_("Context (tokens read before and with the targets)"),
                 ylabel=_("Loss of the same targets (nats)"))  # fmt: skip
        legend_below(figure, axes)
    targets = {int(n) for r in board.records if (n := value_of(r, "context/n"))}
    note = _(
        "Mean, band ± std over seeds, {value}", value=over_seeds(board.rows, [s.n for s in shown])
    )
    note += _(", {targets:,} targets each", targets=max(targets)) if targets else ""
    note += _(
        "{found}; falling: more context helps; rising: positions fail to generalize",
        found=cut(len(shown), len(found)),
    )
    note += f"{missing(board, keys.values())}; {'; '.join(board.settings)}"
    return finished(Plot("loss_by_context", _("Loss by context length"), note, figure))
