"""Training and validation loss while training."""

from micro_transformer.plots.series import distinct, first_of, history, over_seeds
from micro_transformer.plots.style import COLOURS, Plot, axes_of, cut, finished, legend_below, line
from micro_transformer.records.rows import Board
from micro_transformer.wording import _


def train_and_validation(board: Board) -> Plot | None:
    """Training (thin) and validation loss against steps; None without curves."""
    training = distinct(board, lambda row: history(row, "train/loss", "step"))
    validation = distinct(board, lambda row: history(row, "val/loss", "step"))
    names = list(dict.fromkeys(s.name for s in first_of(validation) or first_of(training)))
    if not names:
        return None
    with axes_of(7.2, 4.6) as (figure, axes):
        for i, name in enumerate(names):
            for s in (s for s in training if s.name == name):
                thin = {"linewidth": 0.8, "alpha": 0.7, "color": COLOURS[i % len(COLOURS)]}
                axes.plot(s.x, s.mean, **thin)
            for s in (s for s in validation if s.name == name):
                axes.plot(s.x, s.mean, **line(i), markevery=0.12, label=name)
        axes.set(xlabel=_("Step"), ylabel=_("Loss (nats)"))
        legend_below(figure, axes)
    note = _("Validation: markers; training: thin lines; means over seeds, ")
    note += over_seeds(board.rows, [s.n for s in (validation or training) if s.name in names])
    note += f"{cut(len(names), len(validation or training))}; {'; '.join(board.settings)}"
    return finished(Plot("loss", _("Training and validation loss"), note, figure))
