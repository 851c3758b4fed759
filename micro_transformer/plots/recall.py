"""Recall accuracy by configuration and distance."""

import math
from typing import Any

import numpy as np

from micro_transformer.plots.series import missing, over_seeds
from micro_transformer.plots.style import Plot, axes_of, counted, cut, finished, label
from micro_transformer.records.metrics import places
from micro_transformer.records.rows import Board, Row, Summary, value_of
from micro_transformer.wording import _

MOST_ROWS = 24
TRAINED, LEARNED = "trained_length", 0.95


def recall_map(board: Board, what: str = "recall") -> Plot | None:
    """Accuracy, configurations down and distances across; None without distances.

    Below each share its ± std over seeds, of a single seed its 95 % interval. The first column, set
    apart, is the trained length where that was measured."""
    there = {key for r in board.records for key in r.metrics}
    keys = {str(place): key for place, key in places(there, f"{what}/accuracy").items()}
    rows = [row for row in board.rows if row.ok]
    if not keys or not rows:
        return None
    if f"{what}/{TRAINED}" in there:
        keys = {TRAINED: f"{what}/{TRAINED}"} | keys
    shown = rows[:MOST_ROWS]
    with axes_of(2.6 + 0.72 * len(keys), 1.5 + 0.46 * len(shown)) as (figure, axes):
        values = [[row.summary(key) for key in keys.values()] for row in shown]
        means = np.array([[math.nan if s.mean is None else s.mean for s in line]
                          for line in values])  # fmt: skip
        axes.set_facecolor("#dddddd")  # where there is nothing to show
        image = axes.imshow(means, cmap="cividis", vmin=0, vmax=1, aspect="auto")
        for i, row in enumerate(shown):
            for j, place in enumerate(keys):
                _write(axes, i, j, values[i][j], _bounds(row, what, place))
        if TRAINED in keys:
            axes.axvline(0.5, color="white", linewidth=4)
        axes.set_yticks(range(len(shown)), [label(row.name, 36) for row in shown])
        axes.set_xticks(range(len(keys)), [place.replace("_", "\n") for place in keys])
        axes.set(xlabel=_("Distance between key and query (tokens)"))
        axes.grid(visible=False)
        axes.tick_params(length=0)
        figure.colorbar(image, ax=axes, label=_("Accuracy"), pad=0.02)
    title = _("{capitalize} by distance", capitalize=what.capitalize())
    note = f"{_read(board, shown, what)}{cut(len(shown), len(rows))}"
    note += f"{missing(board, keys.values())}; {'; '.join(board.settings)}"
    return finished(Plot(f"{what}_by_distance", title, note, figure))


def _write(axes: Any, i: int, j: int, summary: Summary, bounds: str) -> None:
    if summary.mean is None:
        axes.text(j, i, "n/a", ha="center", va="center", fontsize=8, color="#444444")
        return
    below = f"± {summary.std:.2f}" if summary.std is not None else bounds
    colour = "black" if summary.mean > 0.55 else "white"
    text = f"{summary.mean:.2f}" + (f"\n{below}" if below else "")
    axes.text(j, i, text, ha="center", va="center", fontsize=7, color=colour)


def _bounds(row: Row, what: str, place: str) -> str:
    low, high = (row.summary(f"{what}/{end}@{place}").mean for end in ("low", "high"))
    return "" if low is None or high is None else f"{low:.2f}–{high:.2f}".replace("–", " to ")


def _read(board: Board, rows: list[Row], what: str) -> str:
    """How to read the map: seeds, answers, chance and majority, what an arm must have learned."""
    asked = {int(value) for r in board.records for key in r.metrics
             if key.startswith(f"{what}/n@") and (value := value_of(r, key))}  # fmt: skip
    seeds = over_seeds(board.rows, [len(row.ok) for row in rows])
    words = [_("± std over seeds or 95 % interval of one, {seeds}", seeds=seeds)]
    if asked:
        words.append(_("{value} per seed and distance", value=counted(sorted(asked), "answer")))
    for key in ("chance", "majority"):
        known = [v for r in board.records if (v := value_of(r, f"{what}/{key}")) is not None]
        if known:
            words.append(f"{key} {max(known):.3f}")
    if any(f"{what}/{TRAINED}" in r.metrics for r in board.records):
        words.append(
            _(
                "a row below {learned} at the trained length says nothing about distance",
                learned=LEARNED,
            )
        )
    return "; ".join(words)
