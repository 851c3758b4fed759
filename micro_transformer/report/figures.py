"""Every figure that a board has the numbers for, with its caption."""

from collections.abc import Iterator

from micro_transformer import plots
from micro_transformer.plots import Plot
from micro_transformer.records.metrics import TOKENS_PER_S
from micro_transformer.report.drawn import Drawn
from micro_transformer.report.study import Study


def draw(found: Study, number: int) -> Iterator[Drawn]:
    """The figures of the board of this number."""
    end = "" if number == 0 else f"-{number + 1}"
    names: dict[str, int] = {}
    for plot in plots_of(found):
        if plot is not None:
            names[plot.name] = names.get(plot.name, 0) + 1  # a figure of each setting
            again = f"-{names[plot.name]}" if names[plot.name] > 1 else ""
            caption = f"{plot.title}: {found.board.title}. {plot.note}."
            on_page = not plot.name.startswith("pareto")
            yield Drawn(plot.name + again + end, caption, *plots.rendered(plot), on_page)


def plots_of(found: Study) -> Iterator[Plot | None]:
    """Every figure there can be of a board; None where it lacks the numbers."""
    board, where = found.board, "; ".join(found.board.settings)
    yield plots.ppl_by_epoch(board)
    yield plots.train_and_validation(board)
    yield plots.ppl_by_stretch(board)
    yield plots.loss_by_context(board)
    yield plots.recall_map(board, "recall")
    yield plots.recall_map(board, "needle")
    for effects in [e for e in found.effects if not e.measure.is_ratio][:1]:
        lines = [
            (f"{c.factor}: {c.a} − {c.b}", c.estimate.value, *interval, c.verdict == "differs")
            for c in effects.contrasts
            if (interval := c.estimate.interval()) is not None
        ]
        n = plots.counted([c.seeds for c in effects.contrasts], "paired seed") if lines else ""
        yield plots.effects_plot(lines, effects.measure, n, where)
    if found.law:
        yield plots.scaling_plot(found.sizes, found.ppls, found.law, where)
    for setting in board.settings:
        yield plots.speed_bars(board, TOKENS_PER_S, setting)
        yield plots.speed_by_context(board, setting)
        yield plots.memory_by_context(board, setting)
    for front in found.fronts:
        yield plots.pareto_plot(front.points, front.cost, front.quality, front.setting)
