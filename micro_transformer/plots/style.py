"""What all figures share: readable in grey and by the colour-blind (each line has its own colour,
dash and marker, each bar its own hatch), with units, n and where it was measured."""

import io
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib
import seaborn
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from micro_transformer.wording import _, printable

# Okabe and Ito (2008), dark enough on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#7F6000")
DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)), (0, (7, 3)))
MARKERS = "osD^vP*X"
HATCHES = ("", "///", "...", "xxx", "\\\\\\", "ooo", "+++", "---")
MOST_LINES = 12
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
class Plot:
    """A figure with its file name, title and note: bands, n, device."""

    name: str
    title: str
    note: str
    figure: Figure

    def _repr_png_(self) -> bytes:
        """How a notebook shows it."""
        return rendered(self)[1]


def finished(plot: Plot) -> Plot:
    """The plot with its note above the axes, so that the picture alone says what it shows."""
    note = plot.figure.suptitle(
        wrapped(plot.note, round(16 * plot.figure.get_figwidth())),
        fontsize=8, x=0.01, ha="left", color="#444444",
    )  # fmt: skip
    note.set_parse_math(False)
    return plot


def rendered(plot: Plot) -> tuple[bytes, bytes]:
    """(SVG, PNG) of a figure; the same bytes for the same figure."""
    svg, png = io.BytesIO(), io.BytesIO()
    with matplotlib.rc_context(STYLE):
        plot.figure.savefig(svg, format="svg", metadata={"Date": None})
        plot.figure.savefig(png, format="png", metadata={"Software": None})
    return svg.getvalue(), png.getvalue()


def label(text: str, longest: int = 60) -> str:
    """A name that every font has the letters of, cut to a length that fits."""
    text = "".join(c if ord(c) < 0x250 or c in "—±×−…" else "?" for c in printable(text))
    return text if len(text) <= longest else text[: longest - 1] + "…"


def wrapped(text: str, width: int) -> str:
    """The label on at most four lines of at most `width` letters."""
    lines = [""]
    for word in label(text, 4 * width).split():
        fits = not lines[-1] or len(lines[-1]) + len(word) < width
        lines[-1:] = [f"{lines[-1]} {word}".strip()] if fits else [lines[-1], word]
    return "\n".join(line[:width] for line in lines[:4])


@contextmanager
def axes_of(width: float, height: float, columns: int = 1) -> Iterator[tuple[Figure, Any]]:
    """A figure of this size in inches and its axes (an array for several columns), in our style."""
    with seaborn.axes_style("ticks"), matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height))  # not pyplot's: no window, nothing to close
        yield figure, figure.subplots(1, columns)


def line(i: int) -> dict[str, Any]:
    """The look of the line of number i; colour, dash and marker together are its own."""
    k = i % len(COLOURS)
    marker = MARKERS[(i + 3 * (i // len(COLOURS))) % len(MARKERS)]
    return {"color": COLOURS[k], "linestyle": DASHES[k], "marker": marker, "markersize": 4.5}


def plain_log(axis: Any) -> None:
    """Plain numbers along a logarithmic axis with all that it shows drawn: 1, 2 and 5 of each
    decade, of many decades 1 alone, evenly spaced where it spans less than one."""
    low, high = axis.get_view_interval()
    decades = math.log10(high / low)
    steps = (1, 2, 5) if decades < 2.5 else (1,)
    axis.set_major_locator(LogLocator(subs=steps) if decades > 1 else MaxNLocator(6, min_n_ticks=3))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
    axis.set_minor_formatter(NullFormatter())


def token_axis(axes: Any, lengths: list[int]) -> None:
    """A logarithmic axis of lengths in tokens, each named: 512, 1k, 2k."""
    names = [f"{n // 1024}k" if n % 1024 == 0 else str(n) for n in lengths]
    axes.set_xscale("log", base=2)
    axes.set_xticks(lengths, names)
    axes.xaxis.set_minor_formatter(NullFormatter())


def legend_below(figure: Figure, axes: Any) -> None:
    """The legend is below the axes, where it covers no data."""
    handles, names = axes.get_legend_handles_labels()
    if handles:
        longest = max(map(len, names))
        room = int(15 * figure.get_figwidth() // (longest + 8))
        figure.legend(handles, names, loc="outside lower left", ncols=max(1, min(3, room)),
                      fontsize=8)  # fmt: skip


def cut(shown: int, there: int) -> str:
    """What a note adds when not everything is drawn."""
    return _("; first {shown} of {there}", shown=shown, there=there) if shown < there else ""


def counted(counts: list[int], what: str = "seed") -> str:
    """`n = 3 seeds`, `n = 2 to 3 seeds`."""
    low, high = min(counts), max(counts)
    words = f"{what}{'' if high == 1 else 's'}"
    return f"n = {low} {words}" if low == high else f"n = {low} to {high} {words}"
