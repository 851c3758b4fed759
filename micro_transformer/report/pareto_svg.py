"""The trade of quality against cost as inline SVG; the page's script adds what a pointer shows."""

import math
from collections.abc import Callable

from micro_transformer.plots.labels import Box, place_names, short_names
from micro_transformer.records.cells import figure
from micro_transformer.records.metrics import Measure
from micro_transformer.records.rows import Summary
from micro_transformer.report.html import Markup, joined, tag
from micro_transformer.report.study import Front
from micro_transformer.stats.pareto import DOMINATED, FRONT, PERHAPS, Point

WIDTH, HEIGHT = 720, 430
LEFT, RIGHT, TOP, BOTTOM = 72, 20, 16, 58
FEW = 6  # points whose names have room in the letters of a phone, too
LETTER, LARGE = (7.2, 16.0), (12.0, 27.0)  # a letter of a name, in the units of the drawing
LOOKS = {FRONT: "sure", PERHAPS: "perhaps", DOMINATED: "dominated"}
Scale = Callable[[float], float]


def front_svg(front: Front) -> Markup:
    """Points with their ± std, the line through the rows that surely trade one for the other."""
    xs, x_ticks = _axis([p.cost for p in front.points], LEFT, WIDTH - RIGHT)
    ys, y_ticks = _axis([p.quality for p in front.points], HEIGHT - BOTTOM, TOP)
    grid = [
        tag("line", x1=xs(t), x2=xs(t), y1=TOP, y2=HEIGHT - BOTTOM, class_="grid") for t in x_ticks
    ]
    grid += [tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=ys(t), y2=ys(t), class_="grid")
             for t in y_ticks]  # fmt: skip
    grid += [tag("text", _short(t), x=xs(t), y=HEIGHT - BOTTOM + 20, class_="tick middle")
             for t in x_ticks]  # fmt: skip
    grid += [tag("text", _short(t), x=LEFT - 8, y=ys(t) + 5, class_="tick end") for t in y_ticks]
    middle = (TOP + HEIGHT - BOTTOM) / 2
    names = [
        tag("text", _axis_title(front.cost), x=(LEFT + WIDTH - RIGHT) / 2, y=HEIGHT - 12,
            class_="name middle"),
        tag("text", _axis_title(front.quality), x=0, y=0, class_="name middle",
            transform=f"translate(17 {middle}) rotate(-90)"),
    ]  # fmt: skip
    best = sorted((p.cost.mean or 0.0, p.quality.mean or 0.0) for p in front.points if p.on_line)
    line = " ".join(f"{xs(x):.1f},{ys(y):.1f}" for x, y in best)
    order = sorted(front.points, key=lambda p: (p.nominal, p.standing == FRONT))
    points = [_point(front, p, xs, ys) for p in order]
    labels = _labels(order[::-1], xs, ys)
    title = f"{front.quality.title} against {front.cost.title}, {front.setting}"
    return tag(
        "svg",
        tag("g", *grid), *names, tag("polyline", points=line, class_="front"), labels,
        tag("g", *points),
        viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=title,
        class_="few" if len(front.points) <= FEW else None,
    )  # fmt: skip


def _point(front: Front, p: Point, xs: Scale, ys: Scale) -> Markup:
    x, y = xs(p.cost.mean or 0.0), ys(p.quality.mean or 0.0)
    tip = "\n".join(
        (
            p.row.name,
            f"{front.quality.title}: {figure(p.quality).text}",
            f"{front.cost.title}: {figure(p.cost).text}",
            f"n = {p.quality.n}, {p.standing}",
        )
    )
    bars = [
        tag("line", x1=_at(xs, p.cost, -1), x2=_at(xs, p.cost, 1), y1=y, y2=y),
        tag("line", x1=x, x2=x, y1=_at(ys, p.quality, -1), y2=_at(ys, p.quality, 1)),
    ]
    if p.standing == FRONT:
        mark = tag("circle", cx=f"{x:.1f}", cy=f"{y:.1f}", r=6)
    elif p.standing == PERHAPS:
        mark = tag("rect", x=f"{x - 5:.1f}", y=f"{y - 5:.1f}", width=10, height=10)
    else:
        mark = tag("path", d=f"M{x - 4:.1f} {y - 4:.1f}l8 8m-8 0l8 -8")
    return tag(
        "g", tag("title", tip), *bars, mark,
        tag("circle", cx=f"{x:.1f}", cy=f"{y:.1f}", r=13, class_="target"),
        class_=f"point {LOOKS[p.standing]}", tabindex=0, data_tip=tip, data_config=p.row.name,
    )  # fmt: skip


def _labels(order: list[Point], xs: Scale, ys: Scale) -> Markup:
    """The names of the points, each with a line to its own where it is farther off."""
    places = [(xs(p.cost.mean or 0.0), ys(p.quality.mean or 0.0)) for p in order]
    frame = Box((LEFT + WIDTH - RIGHT) / 2, (TOP + HEIGHT - BOTTOM) / 2,
                WIDTH - RIGHT - LEFT, HEIGHT - BOTTOM - TOP)  # fmt: skip
    names = short_names([p.row for p in order])
    letter = LARGE if len(order) <= FEW else LETTER
    found: list[Markup] = []
    for name, (x, y), box in zip(
        names, places, place_names(places, names, letter, frame), strict=True
    ):
        if box:
            ends = {"x1": f"{x:.1f}", "y1": f"{y:.1f}", "x2": f"{box.x:.1f}", "y2": f"{box.y:.1f}"}
            found.append(tag("line", **ends))
            found.append(tag("text", name, x=f"{box.x:.1f}", y=f"{box.y + 4:.1f}"))
    return tag("g", *found, class_="labels")


def legend() -> Markup:
    """What the marks of the fronts mean."""
    marks = {"sure": "●", "perhaps": "■", "dominated": "×"}
    items = [
        tag("span", tag("b", marks[look], class_=look), f" {standing}", class_="key")
        for standing, look in LOOKS.items()
    ]
    return joined(*items)


def _axis(summaries: list[Summary], start: float, end: float) -> tuple[Scale, list[float]]:
    """(value -> place, ticks); logarithmic beyond a factor of twenty."""
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


def _at(scale: Scale, summary: Summary, side: int) -> str:
    return f"{scale((summary.mean or 0.0) + side * (summary.std or 0.0)):.1f}"


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _axis_title(measure: Measure) -> str:
    return f"{measure.title} · {'less' if measure.lower_is_better else 'more'} is better"
