"""Main effects and two-way interactions of a sweep, with intervals pooled over the factorial.

A level is compared with another in the settings of the other factors where both have results, so an
incomplete cross is analysed for what it holds. One family of tests a measure: every pair of levels
and every interaction, corrected by Holm.
"""

import itertools
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from scipy.stats import bartlett

from micro_transformer.records.metrics import Measure
from micro_transformer.records.rows import Board, setting_of, value_of
from micro_transformer.stats.error_strata import Layer, Value, layer, measured_on_one_training
from micro_transformer.stats.holm import holm
from micro_transformer.stats.linear_model import Cell, Estimate, Fit, detectable
from micro_transformer.wording import N_, _, translate

ALPHA = 0.05
DISTURBED = N_(
    "Speeds and times were measured with concurrent jobs, so they are shown but not compared. With "
    "run.bench=alone they are measured one at a time."
)
BETTER, EQUAL, OPEN = N_("differs"), N_("equal"), N_("undecided")
IDENTICAL, UNTESTED = N_("identical"), N_("untested")


@dataclass
class Contrast:
    """Level a minus level b of a factor (of a ratio: the logarithm of a over b)."""

    factor: str
    a: str
    b: str
    estimate: Estimate
    seeds: int  # seeds in which both were measured
    met: int  # settings of the other factors in which both have results
    settings: int  # settings in which either has
    identical: bool = False
    p: float | None = None  # Holm
    p_beyond: float | None = None  # Holm, of the equivalence test
    detectable: float | None = None

    @property
    def verdict(self) -> str:
        """differs, equal (within the margin), identical, undecided or untested."""
        if self.identical:
            return IDENTICAL
        if self.p is None or self.p_beyond is None:
            return UNTESTED
        return BETTER if self.p < ALPHA else EQUAL if self.p_beyond < ALPHA else OPEN


@dataclass
class Interaction:
    """Whether the effect of one factor depends on the other."""

    factors: tuple[str, str]
    f: float
    freedom: tuple[int, int]
    raw_p: float
    p: float = 1.0  # Holm


@dataclass
class Effects:
    """All that was compared for one measure, and what could not be."""

    measure: Measure
    contrasts: list[Contrast] = field(default_factory=list)
    interactions: list[Interaction] = field(default_factory=list)
    sigma: float | None = None  # deviation of a training around its configuration and seed
    df: int = 0
    seeds: int = 0
    family: int = 0
    notes: list[str] = field(default_factory=list)
    disturbed: bool = False  # a cost measured with concurrent jobs, which is not compared


def analyse(board: Board, measure: Measure) -> Effects:
    """The effects of the board's factors on a measure. A board that mixes code, data or versions is
    refused: no contrast, and a note that says so."""
    effects = Effects(measure)
    if board.mixed:
        effects.notes = [_("Not compared: {what}.", what=what) for what in board.mixed]
        return effects
    values = _values(board, measure, effects)
    if effects.disturbed:
        return effects
    effects.seeds = len({v.seed for v in values})
    if not values:
        effects.notes.append(_("No run has this figure."))
        return effects
    if not board.factors:
        effects.notes.append(_("Nothing was varied."))
    return compare(board.factors, values, effects)


def compare(factors: list[str], values: list[Value], effects: Effects) -> Effects:
    """`effects` with every pair and interaction that the values support."""
    within_training = measured_on_one_training(len(factors), values)
    only_training = effects.measure.key.startswith("train/")
    layers: dict[frozenset[int], Layer] = {}

    def among(*positions: int) -> Layer:
        keep = within_training & set(positions)
        if keep not in layers:
            layers[keep] = layer(within_training, keep, values)
        return layers[keep]

    effects.sigma, effects.df = among().fit.sigma, among().fit.df
    for i, factor in enumerate(factors):
        if not (only_training and i in within_training):
            effects.contrasts += _pairs(i, factor, among(i), effects)
    for i, j in itertools.combinations(range(len(factors)), 2):
        if only_training and within_training & {i, j}:
            continue
        test = among(i, j).fit.f_test(list(_two_way(i, j, among(i, j).fit)))
        if test is not None:
            f, top, bottom, p = test
            effects.interactions.append(Interaction((factors[i], factors[j]), f, (top, bottom), p))
    _judge(effects)
    _say_what_is_missing(factors, values, effects)
    return effects


def _values(board: Board, measure: Measure, effects: Effects) -> list[Value]:
    """The figures on the board; costs from the setting where most were measured."""
    is_cost = measure.is_ratio
    settings = Counter(setting_of(r) for r in board.records if value_of(r, measure.key) is not None)
    chosen = settings.most_common(1)[0][0] if settings else None
    effects.disturbed = is_cost and chosen is not None and chosen.is_disturbed
    if effects.disturbed:
        effects.notes = [translate(DISTURBED)]
        return []
    if is_cost and len(settings) > 1:
        effects.notes.append(_("Only what was measured on {chosen} is compared.", chosen=chosen))
    values = []
    for row in board.rows:
        levels = tuple(row.levels[factor] for factor in board.factors)
        for record in row.ok:
            figure = value_of(record, measure.key)
            if figure is None or (is_cost and (setting_of(record) != chosen or figure <= 0)):
                continue
            training = record.fingerprints.get("train") or f"{levels} {record.seed}"
            values.append(
                Value(levels, record.seed, str(training), math.log(figure) if is_cost else figure)
            )
    return values


def _pairs(i: int, factor: str, layer: Layer, effects: Effects) -> Iterator[Contrast]:
    """Every pair of levels, averaged over the settings of the other factors where both are."""
    figures: dict[str, dict[Cell, set[int]]] = {}  # level -> setting of the others -> seeds
    for v in layer.values:
        figures.setdefault(v.levels[i], {}).setdefault(_without(v.levels, i), set()).add(v.seed)
    for a, b in itertools.combinations(layer.representative[i], 2):
        one, two = figures[layer.representative[i][a]], figures[layer.representative[i][b]]
        both = [rest for rest in one if rest in two]
        seeds = len({seed for rest in both for seed in one[rest] & two[rest]})
        if layer.representative[i][a] == layer.representative[i][b]:
            exact = Estimate(0.0, 0.0, layer.fit.df)
            yield Contrast(factor, a, b, exact, seeds, len(both), len(both), identical=True)
            continue
        weights = {_with(rest, i, layer.representative[i][a]): 1 / len(both) for rest in both}
        weights |= {_with(rest, i, layer.representative[i][b]): -1 / len(both) for rest in both}
        estimate = layer.fit.contrast(weights) if both else None
        if estimate is None:
            lack = _("have no seed in common") if both else _("were never measured in one setting")
            effects.notes.append(
                _("{factor}: {a} and {b} {lack}; not compared.", factor=factor, a=a, b=b, lack=lack)
            )
            continue
        yield Contrast(factor, a, b, estimate, seeds, len(both), len(one.keys() | two.keys()))


def _two_way(i: int, j: int, fit: Fit) -> Iterator[dict[Cell, float]]:
    """Difference of differences of every two levels of i and two of j, over the shared settings."""
    first = list(dict.fromkeys(cell[i] for cell in fit.cells))
    second = list(dict.fromkeys(cell[j] for cell in fit.cells))
    rests = list(
        dict.fromkeys(_without(_without(cell, max(i, j)), min(i, j)) for cell in fit.cells)
    )
    low, high = min(i, j), max(i, j)

    def cell(rest: Cell, x: str, y: str) -> Cell:
        return _with(_with(rest, low, x), high, y)

    complete = len(fit.cells) == len(first) * len(second) * len(rests)
    pairs = (
        _against_the_first if complete else _every_pair
    )  # where none is missing they say the same
    for a, b in pairs(first):
        for c, d in pairs(second):
            corners = [(a, c, 1), (a, d, -1), (b, c, -1), (b, d, 1)]
            full = [r for r in rests if all(cell(r, x, y) in fit.index for x, y, _ in corners)]
            if full:
                yield {cell(r, x, y): sign / len(full) for r in full for x, y, sign in corners}


def _against_the_first(levels: list[str]) -> Iterator[tuple[str, str]]:
    return ((levels[0], level) for level in levels[1:])


def _every_pair(levels: list[str]) -> Iterator[tuple[str, str]]:
    return itertools.combinations(levels, 2)


def _judge(effects: Effects) -> None:
    """Holm over the whole family, for differences and for equivalences; what could be seen."""
    pairs, crosses = effects.contrasts, effects.interactions
    tests = [None if c.identical else c.estimate.p for c in pairs] + [x.raw_p for x in crosses]
    effects.family = sum(p is not None for p in tests)
    adjusted = holm(tests)
    beyond = holm(
        [None if c.identical else c.estimate.p_beyond(effects.measure.bound) for c in pairs]
    )
    for contrast, p, q in zip(pairs, adjusted, beyond, strict=False):
        contrast.p, contrast.p_beyond = p, q
        if contrast.estimate.se is not None:
            alpha = ALPHA / max(1, effects.family)
            contrast.detectable = detectable(contrast.estimate.se, contrast.estimate.df, alpha)
    for cross, p in zip(crosses, adjusted[len(pairs) :], strict=True):
        cross.p = 1.0 if p is None else p


def _say_what_is_missing(factors: list[str], values: list[Value], effects: Effects) -> None:
    cells = {v.levels for v in values}
    full = math.prod(len({v.levels[i] for v in values}) for i in range(len(factors)))
    if len(cells) < full:
        effects.notes.append(
            _(
                "{cells} of the {full} cells of the cross have results; each comparison uses "
                "the settings in which both sides have one.",
                cells=len(cells),
                full=full,
            )
        )
    per_cell: dict[Cell, set[int]] = {}
    for v in values:
        per_cell.setdefault(v.levels, set()).add(v.seed)
    if any(seeds != per_cell[values[0].levels] for seeds in per_cell.values()):
        effects.notes.append(
            _(
                "Configurations have different seeds: differences are taken within seeds, and a"
                " mean over all of a configuration's seeds is not comparable with another's."
            )
        )
    if effects.contrasts and _scatters_unequally(values):
        effects.notes.append(
            _(
                "{label}: some configurations vary far more over seeds than others "
                "(Bartlett's test, p < 0.01); the pooled intervals are too wide for the stable "
                "ones and too narrow for the others.",
                label=effects.measure.label,
            )
        )
    if effects.contrasts and all(c.estimate.se is None for c in effects.contrasts):
        effects.notes.append(_("No repetition: without a second seed no difference can be tested."))


def _scatters_unequally(values: list[Value]) -> bool:
    cells: dict[Cell, dict[str, float]] = {}  # one figure a training
    for v in values:
        cells.setdefault(v.levels, {})[v.training] = v.value
    groups = {tuple(sorted(held.values())) for held in cells.values()}  # a cache repeats a row
    groups = {group for group in groups if len(set(group)) > 1}
    return len(groups) > 1 and float(bartlett(*groups).pvalue) < 0.01


def _without(cell: Cell, i: int) -> Cell:
    return cell[:i] + cell[i + 1 :]


def _with(rest: Cell, i: int, level: str) -> Cell:
    return (*rest[:i], level, *rest[i:])
