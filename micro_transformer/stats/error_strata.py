"""The two layers of noise of a sweep, and what counts as a repetition in each.

Factors that are part of a training (positions, size) are compared between trainings, one value
each, with seeds as blocks. Factors that are measured several times on one training (cache,
decoding) are compared within trainings, with trainings as blocks: twelve caches on three trainings
are three repetitions, not thirty-six. For the same reason the other such factors are averaged over
first, and levels that never differ in the last bit are taken as one.
"""

import math
from collections import Counter
from dataclasses import dataclass, replace

from micro_transformer.stats.linear_model import Cell, Fit


@dataclass(frozen=True)
class Value:
    """One figure: the level of each factor, the seed, the training it was measured on."""

    levels: Cell
    seed: int
    training: str
    value: float


@dataclass
class Layer:
    """A fit, the values in it, and for each factor the representative of each level."""

    fit: Fit
    values: list[Value]
    representative: list[dict[str, str]]


def measured_on_one_training(num_factors: int, values: list[Value]) -> frozenset[int]:
    """Positions of the factors that take several levels on one training."""
    seen: dict[str, list[set[str]]] = {}
    for v in values:
        for i, level in enumerate(v.levels):
            seen.setdefault(v.training, [set() for _ in range(num_factors)])[i].add(level)
    return frozenset(
        i for i in range(num_factors) if any(len(levels[i]) > 1 for levels in seen.values())
    )


def layer(within_training: frozenset[int], keep: frozenset[int], values: list[Value]) -> Layer:
    """The stratum in which the factors `keep` (none: the trainings themselves) are compared."""
    kept = _averaged_over(within_training - keep, values)
    representative = []
    for i in range(len(values[0].levels)):
        stand = _same_to_the_last_bit(i, kept)
        representative.append(stand)
        kept = [replace(v, levels=(*v.levels[:i], stand[v.levels[i]], *v.levels[i + 1 :]))
                for v in kept]  # fmt: skip
        kept = list({(v.levels, v.seed): v for v in kept}.values())
    blocks = [v.training if keep else v.seed for v in kept]
    return Layer(
        Fit([v.levels for v in kept], blocks, [v.value for v in kept]), kept, representative
    )


def _averaged_over(dropped: frozenset[int], values: list[Value]) -> list[Value]:
    """Means over the settings of the dropped factors that are there for all; without such a
    setting, over the one that is there for most. The levels of dropped factors become ""."""
    if not dropped:
        return values
    groups: dict[tuple[Cell, int, str], dict[Cell, float]] = {}
    for v in values:
        levels = tuple("" if i in dropped else level for i, level in enumerate(v.levels))
        setting = tuple(v.levels[i] for i in sorted(dropped))
        groups.setdefault((levels, v.seed, v.training), {})[setting] = v.value
    met = Counter(setting for measured in groups.values() for setting in measured)
    shared = [s for s, n in met.items() if n == len(groups)] or [met.most_common(1)[0][0]]
    return [
        Value(*key, math.fsum(measured[s] for s in shared) / len(shared))
        for key, measured in groups.items()
        if all(s in measured for s in shared)
    ]


def _same_to_the_last_bit(i: int, values: list[Value]) -> dict[str, str]:
    """level -> the first level that has the very same figures wherever both were measured."""
    columns: dict[str, dict[tuple[Cell, int], float]] = {}
    for v in values:
        rest = (v.levels[:i] + v.levels[i + 1 :], v.seed)
        columns.setdefault(v.levels[i], {})[rest] = v.value
    stand: dict[str, str] = {}
    for level, column in columns.items():
        stand[level] = next(
            (other for other in stand.values() if _agree(column, columns[other])), level
        )
    return stand


def _agree(one: dict, two: dict) -> bool:
    shared = one.keys() & two.keys()
    return bool(shared) and all(one[key] == two[key] for key in shared)
