"""Quality against cost."""

from typing import Any

from micro_transformer.plots.labels import Box, place_names, short_names
from micro_transformer.plots.series import over_seeds
from micro_transformer.plots.style import Plot, axes_of, finished
from micro_transformer.records.metrics import Measure
from micro_transformer.stats.pareto import DOMINATED, FRONT, PERHAPS, Point

INSIDE = (440.0, 225.0)  # points that the axes of the figure measure inside, about
LETTER = (4.7, 10.0)  # width and height of a letter in points
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
        _name(axes, points)
        axes.set(xlabel=_axis(cost), ylabel=_axis(quality))
        axes.legend(fontsize=8, loc="lower left", bbox_to_anchor=(0, 1), ncols=len(LOOKS))
    seeds = over_seeds([p.row for p in points], [p.quality.n for p in points])
    note = f"± std over seeds, {seeds}; line: rows that "
    note += f"trade one for the other with 95 % confidence; {setting}"
    name = "pareto-" + cost.key.replace("/", "-")
    return finished(Plot(name, f"{quality.title} against {cost.title}", note, figure))


def _axis(measure: Measure) -> str:
    return f"{measure.title}, {'less' if measure.lower_is_better else 'more'} is better"


def _name(axes: Any, points: list[Point]) -> None:
    """Each point has its name beside it, those on the front first; of very many some have none."""
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    order = sorted(points, key=lambda p: (not p.nominal, p.standing == DOMINATED))
    places = [
        ((p.cost.mean - left) / (right - left) * INSIDE[0],
         (p.quality.mean - bottom) / (top - bottom) * INSIDE[1])
        for p in order
    ]  # fmt: skip
    names = short_names([p.row for p in order])
    frame = Box(INSIDE[0] / 2, INSIDE[1] / 2, *INSIDE)
    boxes = place_names(places, names, LETTER, frame)
    for p, at, name, box in zip(order, places, names, boxes, strict=True):
        if box:
            axes.annotate(
                name, (p.cost.mean, p.quality.mean), xytext=(box.x - at[0], box.y - at[1]),
                textcoords="offset points", fontsize=8, ha="center", va="center",
                arrowprops={"arrowstyle": "-", "color": "#999999", "linewidth": 0.6,
                            "shrinkA": 0, "shrinkB": 4},
            )  # fmt: skip
