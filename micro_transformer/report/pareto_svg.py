"""The trade of quality against cost: where each mark, label and tick of its SVG is.

Templates turn a Drawing into SVG, within the page or as a file of its own.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from markupsafe import Markup

from micro_transformer.plots.labels import Box, place_names, short_names
from micro_transformer.records.cells import figure
from micro_transformer.records.metrics import Measure
from micro_transformer.records.rows import Summary
from micro_transformer.report.templates import render, source
from micro_transformer.report.trade_off import Front
from micro_transformer.stats.pareto import DOMINATED, FRONT, PERHAPS, Point
from micro_transformer.wording import _, translate

WIDTH, HEIGHT = 720, 430
LEFT, RIGHT, TOP, BOTTOM = 72, WIDTH - 20, 16, HEIGHT - 58
FEW = 6  # points whose names have room in the font size of a phone, too
LETTER, LARGE = (7.2, 16.0), (12.0, 27.0)  # width and height of a letter of a name
LOOKS = {FRONT: ("sure", "●"), PERHAPS: ("perhaps", "■"), DOMINATED: ("dominated", "×")}
FILE_STYLE = Markup(".card { fill: var(--card); } svg { font: 13px system-ui, sans-serif; }")
Scale = Callable[[float], float]


@dataclass(frozen=True)
class Mark:
    """A configuration: its point, the ends of its bars, and the text shown on hover."""

    name: str
    tip: str
    look: str  # as in LOOKS
    x: float
    y: float
    x1: float
    x2: float
    y1: float
    y2: float


@dataclass(frozen=True)
class Label:
    """The name of a point, and the point it belongs to."""

    text: str
    x: float
    y: float
    text_x: float
    text_y: float


@dataclass(frozen=True)
class Drawing:
    """A front with coordinates; x to the right, y down, as in SVG."""

    name: str
    title: str
    x_title: str
    y_title: str
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    line: str  # through the rows that trade one for the other with confidence
    marks: list[Mark]
    labels: list[Label]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = RIGHT
    top: int = TOP
    bottom: int = BOTTOM

    @property
    def is_small(self) -> bool:
        """It has few points, so that labels may be large on a phone."""
        return len(self.marks) <= FEW


def _drawing(front: Front, name: str) -> Drawing:
    """The front with points ± std, their names, and the line through those surely on it."""
    xs, x_ticks = _axis([p.cost for p in front.points], LEFT, RIGHT)
    ys, y_ticks = _axis([p.quality for p in front.points], BOTTOM, TOP)
    best = sorted((p.cost.mean or 0.0, p.quality.mean or 0.0) for p in front.points if p.on_line)
    order = sorted(front.points, key=lambda p: (p.nominal, p.standing == FRONT))
    return Drawing(
        name=name,
        title=_(
            "{quality} against {cost}, {setting}",
            quality=front.quality.title, cost=front.cost.title, setting=front.setting,
        ),
        x_title=_axis_title(front.cost),
        y_title=_axis_title(front.quality),
        x_ticks=[(round(xs(t), 1), _short(t)) for t in x_ticks],
        y_ticks=[(round(ys(t), 1), _short(t)) for t in y_ticks],
        line=" ".join(f"{xs(x):.1f},{ys(y):.1f}" for x, y in best),
        marks=[_mark(front, p, xs, ys) for p in order],
        labels=_labels(order[::-1], xs, ys),
    )  # fmt: skip


def front_file(front: Drawing) -> str:
    """The drawing as an SVG file of its own, in light or dark as the viewer prefers."""
    style = Markup("").join((source("colours.css"), source("front.css"), FILE_STYLE))
    return render("front.svg.j2", front=front, own_style=style)


def drawings(fronts: list[Front]) -> list[Drawing]:
    """Each front, drawn; named with its setting if there are several."""
    found = []
    for front in fronts:
        name = _("{quality} against {cost}", quality=front.quality.label, cost=front.cost.title)
        several = len({front.setting for front in fronts}) > 1
        found.append(_drawing(front, f"{name}, {front.setting}" if several else name))
    return found


def _mark(front: Front, p: Point, xs: Scale, ys: Scale) -> Mark:
    tip = "\n".join(
        (
            p.row.name,
            f"{front.quality.title}: {figure(p.quality).text}",
            f"{front.cost.title}: {figure(p.cost).text}",
            f"n = {p.quality.n}, {translate(p.standing)}",
        )
    )
    return Mark(
        p.row.name, tip, LOOKS[p.standing][0],
        round(xs(p.cost.mean or 0.0), 1), round(ys(p.quality.mean or 0.0), 1),
        _end(xs, p.cost, -1), _end(xs, p.cost, 1), _end(ys, p.quality, -1), _end(ys, p.quality, 1),
    )  # fmt: skip


def _labels(order: list[Point], xs: Scale, ys: Scale) -> list[Label]:
    """Names of the points, of those with room for it."""
    places = [(xs(p.cost.mean or 0.0), ys(p.quality.mean or 0.0)) for p in order]
    frame = Box((LEFT + RIGHT) / 2, (TOP + BOTTOM) / 2, RIGHT - LEFT, BOTTOM - TOP)
    names = short_names([p.row for p in order])
    letter = LARGE if len(order) <= FEW else LETTER
    boxes = place_names(places, names, letter, frame)
    return [
        Label(name, round(x, 1), round(y, 1), round(box.x, 1), round(box.y + 4, 1))
        for name, (x, y), box in zip(names, places, boxes, strict=True)
        if box
    ]


def legend() -> dict[str, tuple[str, str]]:
    """Maps the look of a mark to its sign and meaning."""
    return {look: (sign, translate(standing)) for standing, (look, sign) in LOOKS.items()}


def _axis(summaries: list[Summary], start: float, end: float) -> tuple[Scale, list[float]]:
    """(value -> coordinate, ticks); logarithmic for values that span more than a factor of 20."""
    low = min((s.mean or 0.0) - (s.std or 0.0) for s in summaries)
    high = max((s.mean or 0.0) + (s.std or 0.0) for s in summaries)
    smallest = min(s.mean or 0.0 for s in summaries)
    if smallest > 0 and high / smallest > 20:
        a, b = math.log10(max(low, smallest / 2)), math.log10(high)
        a, b = a - 0.06 * (b - a), b + 0.06 * (b - a)
        ticks = [m * 10.0**k for k in range(math.floor(a), math.ceil(b) + 1) for m in (1, 3)]
        return (
            lambda v: start + (end - start) * (math.log10(max(v, 10**a)) - a) / (b - a),
            [t for t in ticks if 10**a <= t <= 10**b],
        )
    room = 0.07 * (high - low) or 0.05 * abs(high) or 1.0
    low, high = low - room, high + room
    return lambda v: start + (end - start) * (v - low) / (high - low), _ticks(low, high)


def _ticks(low: float, high: float) -> list[float]:
    """About five round numbers between the bounds."""
    raw = (high - low) / 5
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(m * size for m in (1, 2, 2.5, 5, 10) if m * size >= raw)
    return [k * step for k in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _end(scale: Scale, summary: Summary, side: int) -> float:
    """Coordinate of an end of the bar of ± std."""
    return round(scale((summary.mean or 0.0) + side * (summary.std or 0.0)), 1)


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _axis_title(measure: Measure) -> str:
    less, more = _("{measure} · less is better"), _("{measure} · more is better")
    return (less if measure.lower_is_better else more).format(measure=measure.title)
