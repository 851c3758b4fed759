"""Rows → lines: values along steps or lengths, one array row per seed."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from micro_transformer.plots.style import MOST_LINES, counted, label
from micro_transformer.records.absence import absence
from micro_transformer.records.record_files import read_history
from micro_transformer.records.rows import Board, Row, setting_of, shared_name, value_of
from micro_transformer.records.shared_seeds import seeds_of


@dataclass
class Series:
    """One line: x (P,) and values (seeds, P), NaN where a value is missing."""

    x: np.ndarray
    values: np.ndarray
    name: str = ""

    @property
    def n(self) -> int:
        """Seeds with any value."""
        return int((~np.isnan(self.values)).any(1).sum())

    @property
    def mean(self) -> np.ndarray:
        """(P,) mean over the seeds that have a value; NaN without one."""
        there = ~np.isnan(self.values)
        total = np.where(there, self.values, 0.0).sum(0)
        return np.divide(total, there.sum(0), out=np.full(len(self.x), np.nan), where=there.any(0))

    @property
    def std(self) -> np.ndarray:
        """(P,) sample deviation over seeds; NaN for fewer than two."""
        there = ~np.isnan(self.values)
        squares = np.where(there, (self.values - self.mean) ** 2, 0.0).sum(0)
        n = there.sum(0)
        out = np.full(len(self.x), np.nan)
        return np.sqrt(np.divide(squares, n - 1, out=out, where=n > 1))


def distinct(board: Board, read: Callable[[Row], Series | None]) -> list[Series]:
    """The lines of the rows, one for all rows that have the very same values (decodings of one
    training have one curve), named by the levels that these share."""
    groups: dict[bytes, tuple[Series, list[Row]]] = {}
    for row in board.rows:
        series = read(row)
        if series is not None:
            key = series.x.tobytes() + b"|" + series.values.tobytes()
            groups.setdefault(key, (series, []))[1].append(row)
    for series, rows in groups.values():
        series.name = label(shared_name(rows))
    return [series for series, _ in groups.values()]


def first_of(found: list[Series]) -> list[Series]:
    """The first lines, as many as can be told apart."""
    return found[:MOST_LINES]


def at_places(row: Row, keys: Mapping[int, str], setting: str | None = None) -> Series | None:
    """The row's values of several keys, given as length -> key; None if it has none."""
    records = [r for r in row.ok if setting is None or setting_of(r) == setting]
    values = [[value_of(r, key) for key in keys.values()] for r in records]
    table = np.array(values, dtype=float).reshape(len(records), len(keys))  # None becomes NaN
    table = table[~np.isnan(table).all(1)]
    return Series(np.array(list(keys), dtype=float), table) if len(table) else None


def history(row: Row, key: str, x: str) -> Series | None:
    """The row's curve of a key, on the steps that every seed has."""
    seeds: list[dict[int, tuple[float, float]]] = []
    for record in row.ok:
        points = {
            line["step"]: (float(line.get(x, line["step"])), float(line[key]))
            for line in (read_history(record.path) if record.path else [])
            if _is_figure(line.get(key)) and _is_figure(line.get(x, line["step"]))
        }
        if points:
            seeds.append(points)
    steps = sorted(set.intersection(*map(set, seeds))) if seeds else []
    if not steps:
        return None
    values = np.array([[points[step][1] for step in steps] for points in seeds])
    return Series(np.array([seeds[0][step][0] for step in steps]), values)


def missing(board: Board, keys: Iterable[str]) -> str:
    """What a note says of figures that were asked for and could not be measured, and why."""
    why: dict[str, list[Row]] = {}
    for row in board.rows:
        reasons = [absence(row.ok[0], k) for k in keys if row.ok and row.summary(k).mean is None]
        for reason in dict.fromkeys(filter(None, reasons)):
            why.setdefault(reason, []).append(row)
    return "".join(f"; missing: {shared_name(rows)}: {reason}" for reason, rows in why.items())


def over_seeds(rows: Iterable[Row], counts: list[int]) -> str:
    """How many seeds are behind each line, and whether they are the same ones."""
    warning = seeds_of(rows).warning
    return counted(counts) + (f"; {warning[0].lower()}{warning[1:]}" if warning else "")


def _is_figure(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300
