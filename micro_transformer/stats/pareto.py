"""Which configurations are worth their cost, and how sure that is."""

import warnings
from collections import Counter
from dataclasses import dataclass

import numpy as np
from scipy import stats

from micro_transformer.records.metrics import Measure
from micro_transformer.records.rows import Board, Row, Setting, Summary, setting_of, value_of
from micro_transformer.records.shared_seeds import seeds_of
from micro_transformer.wording import N_

FRONT, PERHAPS, DOMINATED = N_("on the front"), N_("perhaps"), N_("dominated")
MOST_SEEDS = 50


@dataclass
class Point:
    """A row with its cost and its quality, over the seeds that all rows have where there are any.

    `nominal`: no other row's means, over the seeds that the two share, are better in both.
    `on_line`: of those, the ones that trade one for the other with confidence."""

    row: Row
    cost: Summary
    quality: Summary
    nominal: bool = False
    standing: str = PERHAPS
    on_line: bool = False


def pareto(board: Board, cost: Measure, quality: Measure, setting: Setting) -> list[Point]:
    """The rows that have both figures.

    `dominated`: some row is at least as good in both and better in one, each with 95 % confidence
    (one-sided paired t over the common seeds). `on the front`: every other row is worse in one of
    them with that confidence, or the same. `perhaps`: the seeds do not say, or the cost was
    measured with concurrent jobs."""
    points = _points(board, cost, quality, setting)
    if not points:
        return []
    axes = [_axis(points, m, setting) for m in (cost, quality)]  # less is better on both
    sure = not setting.is_disturbed
    trades = np.zeros((len(points), len(points)), dtype=bool)
    for i, point in enumerate(points):
        pairs = [axis - axis[i] for axis in axes]
        point.nominal = not _at_least_as_good(*map(_means, pairs)).any()
        if sure:
            low, high = map(np.array, zip(*map(_bounds, pairs), strict=True))
            point.standing = _standing(i, low, high)
            trades[i] = ((low > 0) & (high[::-1] < 0)).any(0)
    _draw_the_line(points, trades)
    return points


def _points(board: Board, cost: Measure, quality: Measure, setting: Setting) -> list[Point]:
    rows = [
        row
        for row in board.rows
        if row.summary(cost.key, setting).mean is not None
        and row.summary(quality.key, setting).mean is not None
    ]
    shared = seeds_of(rows, quality.key, setting).shared
    found = []
    for row in rows:
        x, y = (row.summary(m.key, setting, shared or None) for m in (cost, quality))
        if x.mean is not None and y.mean is not None:
            found.append(Point(row, x, y))
    return found


def _standing(i: int, low: np.ndarray, high: np.ndarray) -> str:
    """The standing of row i, from bounds (axes, rows) of every row minus row i."""
    if _at_least_as_good(*high).any():
        return DOMINATED
    ruled_out = (low > 0).any(0) | ((low == 0) & (high == 0)).all(0)
    ruled_out[i] = True
    return FRONT if ruled_out.all() else PERHAPS


def _at_least_as_good(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """Which differences are 0 or less in both and less in one; NaN is neither."""
    return (one <= 0) & (two <= 0) & ((one < 0) | (two < 0))


def _draw_the_line(points: list[Point], trades: np.ndarray) -> None:
    """The line runs through nominal rows, sure ones first, of which each is surely better than each
    other in one of the two and worse in the other: not through rows that differ by noise alone."""
    kept: list[int] = []
    order = sorted(range(len(points)), key=lambda i: points[i].standing != FRONT)
    for i in order:
        if points[i].nominal and trades[i, kept].all():
            kept.append(i)
            points[i].on_line = True


def _axis(points: list[Point], measure: Measure, setting: Setting) -> np.ndarray:
    """(rows, seeds), NaN where absent; turned so that less is better, costs as logarithms."""
    counts = Counter(record.seed for point in points for record in point.row.ok)
    columns = {seed: k for k, (seed, _) in enumerate(counts.most_common(MOST_SEEDS))}
    axis = np.full((len(points), len(columns)), np.nan)
    for i, point in enumerate(points):
        for record in point.row.ok:
            figure = value_of(record, measure.key)
            if figure is not None and record.seed in columns and setting_of(record) == setting:
                axis[i, columns[record.seed]] = figure
    if measure.is_ratio:
        axis = np.log(np.maximum(axis, 1e-300))
    return axis if measure.lower_is_better else -axis


def _means(differences: np.ndarray) -> np.ndarray:
    """The mean difference of each row over the seeds of its pair; NaN without one."""
    n = (~np.isnan(differences)).sum(1)
    return np.divide(np.nansum(differences, 1), n, out=np.full(len(n), np.nan), where=n > 0)


def _bounds(differences: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One-sided 95 % bounds of the mean difference of each row; infinite for fewer than 2 pairs."""
    n = (~np.isnan(differences)).sum(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # rows without a pair
        mean, std = np.nanmean(differences, 1), np.nanstd(differences, 1, ddof=1)
        half = stats.t.ppf(0.95, np.maximum(n - 1, 1)) * std / np.sqrt(n)
    low = np.where(n > 1, mean - half, -np.inf)
    return low, np.where(n > 1, mean + half, np.inf)
