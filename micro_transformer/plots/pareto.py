"""Quality against cost."""

from itertools import zip_longest
from typing import Any

from micro_transformer.measures import Measure
from micro_transformer.plots.series import over_seeds
from micro_transformer.plots.style import Plot, axes_of, finished, label
from micro_transformer.stats.pareto import DOMINATED, FRONT, PERHAPS, Point

MOST_NAMES = 16
NEAR = 0.03  # of the axes: points whose numbers stand together
Place = tuple[float, float]
LOOKS = {
    FRONT: ("o", "#0072B2", "#0072B2"),
    PERHAPS: ("s", "#D55E00", "white"),
    DOMINATED: ("x", "#888888", "#888888"),
}


def pareto_plot(points: list[Point], cost: Measure, quality: Measure, setting: str) -> Plot | None:
    """Quality against cost with ± std; the line joins rows that surely trade one for the other."""
    if not points:
        return None
    with axes_of(7.2, 4.6) as (figure, axes):
        for standing, (marker, colour, face) in LOOKS.items():
            some = [p for p in points if p.standing == standing]
            if some:
                axes.errorbar(
                    [p.cost.mean for p in some], [p.quality.mean for p in some],
                    xerr=[p.cost.std or 0 for p in some], yerr=[p.quality.std or 0 for p in some],
                    fmt=marker, color=colour, markerfacecolor=face, elinewidth=0.8, capsize=2,
                    label=f"{standing} ({len(some)})",
                )  # fmt: skip
        front = sorted((p.cost.mean, p.quality.mean) for p in points if p.on_line)
        axes.plot(*zip(*front, strict=True), color="#0072B2", linewidth=1, zorder=0)
        names = _number(axes, points)
        axes.set(xlabel=_axis(cost), ylabel=_axis(quality))
        axes.legend(fontsize=8, loc="lower left", bbox_to_anchor=(0, 1), ncols=len(LOOKS))
        if names:
            figure.supxlabel(names, fontsize=7, x=0.01, ha="left", family="monospace")
    seeds = over_seeds([p.row for p in points], [p.quality.n for p in points])
    note = f"± std over seeds, {seeds}; line: rows that "
    note += f"trade one for the other with 95 % confidence; {setting}"
    name = "pareto-" + cost.key.replace("/", "-")
    return finished(Plot(name, f"{quality.title} against {cost.title}", note, figure))


def _axis(measure: Measure) -> str:
    return f"{measure.title}, {'less' if measure.lower_is_better else 'more'} is better"


def _number(axes: Any, points: list[Point]) -> str:
    """Numbers at the points, and the names they stand for; of very many only the best have one."""
    named = points if len(points) <= MOST_NAMES else [p for p in points if p.nominal][:MOST_NAMES]
    spans = [abs(end - start) or 1.0 for start, end in (axes.get_xlim(), axes.get_ylim())]
    groups: list[tuple[Place, list[int]]] = []
    for i, p in enumerate(named, 1):
        at = (p.cost.mean or 0.0, p.quality.mean or 0.0)
        close = (
            g
            for g in groups
            if all(abs(a - b) < NEAR * span for a, b, span in zip(g[0], at, spans, strict=True))
        )
        members = next(close, (at, []))
        members[1].append(i)
        if len(members[1]) == 1:
            groups.append(members)
    for at, numbers in groups:
        axes.annotate(
            ", ".join(map(str, numbers)), at, xytext=(6, 5), fontsize=8, textcoords="offset points"
        )
    return _in_columns([f"{i:>2} {label(p.row.name, 52)}" for i, p in enumerate(named, 1)])


def _in_columns(lines: list[str]) -> str:
    """The lines in two columns, read down."""
    half = (len(lines) + 1) // 2
    pairs = zip_longest(lines[:half], lines[half:], fillvalue="")
    return "\n".join(f"{one:<58}{two}".rstrip() for one, two in pairs)
