"""Every figure that a board has the numbers for, with its caption."""

from collections import Counter
from collections.abc import Iterator

from micro_transformer import plots
from micro_transformer.plots import Plot
from micro_transformer.records.metrics import TOKENS_PER_S
from micro_transformer.report import trained_parameters
from micro_transformer.report.drawn import Drawn
from micro_transformer.report.pareto_svg import drawings, front_file
from micro_transformer.report.study import Study
from micro_transformer.wording import _, plural


def draw(found: Study, number: int) -> Iterator[Drawn]:
    """The figures of the board of this number."""
    end = "" if number == 0 else f"-{number + 1}"
    names: Counter[str] = Counter()

    def once(name: str) -> str:
        """The name, numbered if there is a figure of it for another setting."""
        names[name] += 1
        return name + (f"-{names[name]}" if names[name] > 1 else "") + end

    for plot in plots_of(found):
        if plot is not None:
            caption = f"{plot.title}: {found.board.title}. {plot.note}."
            yield Drawn(once(plot.name), caption, *plots.rendered(plot))
    for front, drawing in zip(found.fronts, drawings(found.fronts), strict=True):
        caption = _(
            "{title}: {board}. ± std over seeds, {seeds}; line: rows that trade one for the other "
            "with 95 % confidence.",
            title=drawing.title,
            board=found.board.title,
            seeds=plots.over_seeds(
                [p.row for p in front.points], [p.quality.n for p in front.points]
            ),
        )
        name = once("pareto-" + front.cost.key.replace("/", "-"))
        yield Drawn(name, caption, front_file(drawing).encode(), on_page=False)


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
        seeds = [c.seeds for c in effects.contrasts] or [0]
        n = plural(
            max(seeds),
            "n = {range} paired seed",
            "n = {range} paired seeds",
            range=plots.spread(seeds),
        )
        yield plots.effects_plot(lines, effects.measure, n, where)
    if quality := trained_parameters.compared_by(board):
        trained = trained_parameters.counts(board)
        chance = trained_parameters.chance(board, quality)
        yield plots.quality_by_trainable(trained, quality, chance)
    experts = [each.experts for each in found.routed]
    yield plots.expert_loads(board, experts)
    yield plots.gate_scores(board, experts)
    yield plots.expert_agreement(board, [(r.experts.row, r.agreements) for r in found.routed])
    if found.law:
        yield plots.scaling_plot(found.sizes, found.ppls, found.law, where)
    for setting in board.settings:
        yield plots.speed_bars(board, TOKENS_PER_S, setting)
        yield plots.speed_by_context(board, setting)
        yield plots.memory_by_context(board, setting)
