"""Figures from rows, readable in grey and by the colour-blind: each line has its own colour, dash
and marker, each bar its own hatch. Every figure names units, n and where it was measured."""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
import seaborn
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from micro_transformer.measures import Measure
from micro_transformer.results import read_history
from micro_transformer.rows import Board, Row
from micro_transformer.stats.pareto import DOMINATED, FRONT, PERHAPS, Point
from micro_transformer.stats.power_law import PowerLaw
from micro_transformer.tables import printable

# Okabe and Ito (2008), dark enough on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#7F6000")
DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)), (0, (7, 3)))
MARKERS = "osD^vP*X"
HATCHES = ("", "///", "...", "xxx", "\\\\\\", "ooo", "+++", "---")
MOST_LINES = 8
STYLE: dict[Any, Any] = {
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "font.size": 10,
    "figure.dpi": 120,
    "figure.constrained_layout.use": True,
    "legend.frameon": False,
    "svg.hashsalt": "micro-transformer",  # the same bytes from the same records
    "text.parse_math": False,  # a name may hold a dollar sign
}


@dataclass
class Curve:
    """One row's history: (seeds, steps) of a key, on the steps that every seed has."""

    name: str
    x: np.ndarray
    values: np.ndarray


def ppl_by_epoch(board: Board) -> Figure | None:
    """PPL against epoch, mean and ± std over seeds; None without curves."""
    found = curves(board, "val/loss")
    if not found:
        return None
    with _axes(7.2, 4.2) as (figure, axes):
        for i, curve in enumerate(found):
            ppl = np.exp(np.minimum(curve.values, 700))
            mean = ppl.mean(0)
            axes.plot(curve.x, mean, **_line(i), label=f"{curve.name} (n = {len(ppl)})")
            if len(ppl) > 1:
                std = ppl.std(0, ddof=1)
                axes.fill_between(
                    curve.x, mean - std, mean + std, color=COLOURS[i], alpha=0.18, linewidth=0
                )
        axes.set(xlabel="Epoch", ylabel="Validation PPL", yscale="log")
        _plain_log(axes.yaxis)
        _legend(axes, "Mean, band ± std over seeds", board, len(found))
    return figure


def train_and_validation(board: Board) -> Figure | None:
    """Training (thin) and validation loss against steps; None without curves."""
    found = {curve.name: curve for curve in curves(board, "val/loss", "step")}
    training = curves(board, "train/loss", "step")
    if not found and not training:
        return None
    with _axes(7.2, 4.2) as (figure, axes):
        for i, curve in enumerate(training):
            axes.plot(curve.x, curve.values.mean(0), color=COLOURS[i], linewidth=0.8, alpha=0.7)
            if curve.name in found:
                val = found[curve.name]
                axes.plot(val.x, val.values.mean(0), **_line(i), label=curve.name)
        axes.set(xlabel="Step", ylabel="Loss (nats)")
        _legend(axes, "Validation with markers, training thin; means over seeds", board, len(found))
    return figure


def speed_bars(board: Board, measure: Measure, setting: str) -> Figure | None:
    """A bar a configuration, ± std over its runs; None when nothing was measured."""
    rows = [(row, s) for row in board.rows if (s := row.summary(measure.key, setting)).mean]
    rows.sort(key=lambda item: item[1].mean or 0.0, reverse=not measure.lower_is_better)
    shown = rows[: 2 * MOST_LINES]
    if not shown:
        return None
    with _axes(7.2, 1.2 + 0.36 * len(shown)) as (figure, axes):
        for i, (_, s) in enumerate(shown):
            k = i % MOST_LINES
            axes.barh(
                i, s.mean, xerr=s.std or 0, color=COLOURS[k], hatch=HATCHES[k], edgecolor="white",
                error_kw={"ecolor": "#222222", "capsize": 3}, height=0.7,
            )  # fmt: skip
        axes.set_yticks(range(len(shown)), [f"{label(r.name)} (n = {s.n})" for r, s in shown])
        axes.set(xlabel=measure.title)
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        _title(axes, f"{setting}; ± std{_cut(len(shown), len(rows))}")
    return figure


def effects_plot(
    lines: Sequence[tuple[str, float, float, float, bool]], measure: Measure
) -> Figure | None:
    """Differences with their 95 % intervals; filled where Holm's test found one."""
    shown = list(lines)[: 3 * MOST_LINES]
    if not shown:
        return None
    with _axes(7.2, 1.4 + 0.34 * len(shown)) as (figure, axes):
        axes.axvspan(-measure.bound, measure.bound, color="#eeeeee", zorder=0, label="negligible")
        axes.axvline(0, color="#444444", linewidth=0.8)
        for i, (_, value, low, high, found) in enumerate(shown):
            axes.plot([low, high], [i, i], color="#0072B2", linewidth=2)
            axes.plot(
                value, i, "o", color="#0072B2", markerfacecolor="#0072B2" if found else "white"
            )
        axes.set_yticks(range(len(shown)), [label(name) for name, *_ in shown])
        unit = (
            f"log ratio of {measure.label}" if measure.is_ratio else f"{measure.title}, difference"
        )
        axes.set(xlabel=unit)
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        better = "left" if measure.lower_is_better else "right"
        _title(
            axes,
            f"95 % intervals; filled: a difference (Holm); {better}: the first is better; "
            f"grey: negligible{_cut(len(shown), len(lines))}",
        )
    return figure


def pareto_plot(
    points: list[Point], cost: Measure, quality: Measure, setting: str
) -> Figure | None:
    """Quality against cost with ± std; the line joins the rows whose means no other beats."""
    if not points:
        return None
    looks = {
        FRONT: ("o", "#0072B2", "#0072B2"),
        PERHAPS: ("s", "#D55E00", "white"),
        DOMINATED: ("x", "#888888", "#888888"),
    }
    with _axes(7.2, 4.6) as (figure, axes):
        for standing, (marker, colour, face) in looks.items():
            some = [p for p in points if p.standing == standing]
            if some:
                axes.errorbar(
                    [p.cost.mean for p in some], [p.quality.mean for p in some],
                    xerr=[p.cost.std or 0 for p in some], yerr=[p.quality.std or 0 for p in some],
                    fmt=marker, color=colour, markerfacecolor=face, elinewidth=0.8, capsize=2,
                    label=f"{standing} ({len(some)})",
                )  # fmt: skip
        front = sorted((p.cost.mean, p.quality.mean) for p in points if p.nominal)
        axes.plot(*zip(*front, strict=True), color="#0072B2", linewidth=1, zorder=0)
        if len(points) <= MOST_LINES:
            for p in points:
                axes.annotate(label(p.row.name), (p.cost.mean, p.quality.mean), fontsize=7,
                              xytext=(5, 5), textcoords="offset points")  # fmt: skip
        axes.set(xlabel=cost.title, ylabel=quality.title)
        axes.legend(fontsize=8)
        _title(axes, f"{setting}; ± std over seeds")
    return figure


def scaling_plot(xs: Sequence[float], ys: Sequence[float], law: PowerLaw) -> Figure:
    """PPL against parameters, log-log, with the line and the error of its slope."""
    with _axes(6.4, 4.2) as (figure, axes):
        axes.plot(xs, ys, "o", color="#0072B2", markerfacecolor="white", label="runs")
        line = np.geomspace(min(xs), max(xs), 50)
        text = f"PPL ∝ params^{law.exponent:.3f} (95 %: {law.low:.3f} to {law.high:.3f})"
        axes.plot(line, law.at(line), "--", color="#D55E00", label=text)
        axes.set(xlabel="Parameters", ylabel="Validation PPL", xscale="log", yscale="log")
        _plain_log(axes.yaxis)
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xticks(sorted(set(xs)), [f"{x / 1e6:.3g} M" for x in sorted(set(xs))])
        axes.legend(fontsize=8)
        _title(axes, f"n = {len(xs)} runs of {law.sizes} sizes")
    return figure


def curves(board: Board, key: str, x: str = "epoch") -> list[Curve]:
    """The histories of the first rows of the board that have them, seeds aligned by step."""
    found: list[Curve] = []
    for row in board.rows:
        if len(found) < MOST_LINES and (curve := _curve(row, key, x)) is not None:
            found.append(curve)
    return found


def rendered(figure: Figure) -> tuple[bytes, bytes]:
    """(SVG, PNG) of a figure; the same bytes for the same figure."""
    svg, png = io.BytesIO(), io.BytesIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(svg, format="svg", metadata={"Date": None})
        figure.savefig(png, format="png", metadata={"Software": None})
    return svg.getvalue(), png.getvalue()


def label(text: str, longest: int = 60) -> str:
    """A name that every font has the letters of, cut to a length that fits."""
    text = "".join(c if ord(c) < 0x250 or c in "—±×−…" else "?" for c in printable(text))
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _curve(row: Row, key: str, x: str) -> Curve | None:
    seeds: list[dict[int, tuple[float, float]]] = []
    for record in row.ok:
        lines = read_history(record.path) if record.path else []
        points = {
            line["step"]: (float(line.get(x, line["step"])), float(line[key]))
            for line in lines
            if _is_figure(line.get(key)) and _is_figure(line.get(x, line["step"]))
        }
        if points:
            seeds.append(points)
    steps = sorted(set.intersection(*map(set, seeds))) if seeds else []
    if not steps:
        return None
    values = np.array([[points[step][1] for step in steps] for points in seeds])
    return Curve(label(row.name), np.array([seeds[0][step][0] for step in steps]), values)


def _is_figure(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


@contextmanager
def _axes(width: float, height: float) -> Iterator[tuple[Figure, Any]]:
    with seaborn.axes_style("ticks"), matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height))  # not pyplot's: no window, nothing to close
        yield figure, figure.subplots()


def _line(i: int) -> dict[str, Any]:
    return {
        "color": COLOURS[i], "linestyle": DASHES[i], "marker": MARKERS[i], "markersize": 4,
        "markevery": 0.12,
    }  # fmt: skip


def _plain_log(axis: Any, plain: str = "{:g}") -> None:
    """Plain numbers along a logarithmic axis, evenly spaced where it spans less than a decade."""
    axis.set_major_locator(MaxNLocator(6, min_n_ticks=3))
    axis.set_major_formatter(FuncFormatter(lambda v, _: plain.format(v)))
    axis.set_minor_formatter(NullFormatter())


def _legend(axes: Any, title: str, board: Board, shown: int) -> None:
    axes.legend(fontsize=8)
    _title(axes, f"{title}{_cut(shown, len(board.rows))}; {', '.join(board.settings)[:90]}")


def _cut(shown: int, there: int) -> str:
    return f"; first {shown} of {there}" if shown < there else ""


def _title(axes: Any, text: str) -> None:
    axes.set_title(label(text, 140), fontsize=8, loc="left", color="#444444", wrap=True)
