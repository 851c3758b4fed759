"""Which configurations are worth their cost, and how sure that is."""

import warnings
from collections import Counter
from dataclasses import dataclass

import numpy as np
from scipy import stats

from micro_transformer.measures import Measure
from micro_transformer.rows import Board, Row, Summary, is_disturbed, setting_of, value_of

FRONT, PERHAPS, DOMINATED = "on the front", "perhaps", "dominated"
MOST_SEEDS = 50


@dataclass
class Point:
    """A row with its cost and its quality. `nominal`: no other row's means are better in both."""

    row: Row
    cost: Summary
    quality: Summary
    nominal: bool = False
    standing: str = PERHAPS


def pareto(board: Board, cost: Measure, quality: Measure, setting: str) -> list[Point]:
    """The rows that have both figures.

    `dominated`: some row is at least as good in both and better in one, each with 95 % confidence
    (one-sided paired t over the common seeds). `on the front`: every other row is worse in one of
    them with that confidence, or the same. `perhaps`: the seeds do not say, or the cost was
    measured beside other jobs."""
    points = []
    for row in board.rows:
        point = Point(row, row.summary(cost.key, setting), row.summary(quality.key, setting))
        if point.cost.mean is not None and point.quality.mean is not None:
            points.append(point)
    if not points:
        return []
    axes = [_axis(points, m, setting) for m in (cost, quality)]  # less is better on both
    means = np.array([np.nanmean(axis, axis=1) for axis in axes])
    for i, point in enumerate(points):
        differences = means - means[:, i : i + 1]
        beaten = (differences <= 0).all(0) & (differences < 0).any(0)
        point.nominal = not beaten.any()
        if is_disturbed(setting):
            continue
        low, high = zip(*(_bounds(axis - axis[i]) for axis in axes), strict=True)
        surely = (np.array(high) <= 0).all(0) & (np.array(high) < 0).any(0)
        ruled_out = (np.array(low) > 0).any(0) | ((np.array(low) == 0) & (np.array(high) == 0)).all(
            0
        )
        ruled_out[i] = True
        if surely.any():
            point.standing = DOMINATED
        elif ruled_out.all():
            point.standing = FRONT
    return points


def _axis(points: list[Point], measure: Measure, setting: str) -> np.ndarray:
    """(rows, seeds), NaN where absent; turned so that less is better, costs as logarithms."""
    counts = Counter(record.seed for point in points for record in point.row.ok)
    columns = {seed: k for k, (seed, _) in enumerate(counts.most_common(MOST_SEEDS))}
    axis = np.full((len(points), len(columns)), np.nan)
    for i, point in enumerate(points):
        for record in point.row.ok:
            figure = value_of(record, measure.key)
            if figure is not None and record.seed in columns and setting_of(record) == setting:
                axis[i, columns[record.seed]] = figure
        if np.isnan(axis[i]).all():
            axis[i, 0] = point.cost.mean if measure.is_ratio else point.quality.mean
    if measure.is_ratio:
        axis = np.log(np.maximum(axis, 1e-300))
    return axis if measure.lower_is_better else -axis


def _bounds(differences: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One-sided 95 % bounds of the mean difference of each row; infinite for fewer than 2 pairs."""
    n = (~np.isnan(differences)).sum(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # rows without a pair
        mean, std = np.nanmean(differences, 1), np.nanstd(differences, 1, ddof=1)
        half = stats.t.ppf(0.95, np.maximum(n - 1, 1)) * std / np.sqrt(n)
    low = np.where(n > 1, mean - half, -np.inf)
    return low, np.where(n > 1, mean + half, np.inf)
