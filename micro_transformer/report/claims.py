"""Effects in sentences, each with its test."""

import itertools
import math
from dataclasses import dataclass

from micro_transformer.records.metrics import Measure, has_place
from micro_transformer.report.number_format import (
    decimals,
    equals,
    inside,
    percent,
    ratio,
    signed,
    sized,
    times,
    unit_of,
)
from micro_transformer.stats.effects import (
    BETTER,
    EQUAL,
    IDENTICAL,
    OPEN,
    UNTESTED,
    Contrast,
    Effects,
    Interaction,
)
from micro_transformer.wording import _, plural

ORDER = (BETTER, EQUAL, IDENTICAL, OPEN, UNTESTED)


@dataclass(frozen=True)
class Claim:
    """A sentence and its verdict (one of those of a contrast, or `fact`)."""

    text: str
    verdict: str = "fact"


def claims(effects: Effects) -> list[Claim]:
    """Claims of the comparisons: differences (largest first), equalities, undecided ones."""
    found = [_identical(effects, group) for group in _identical_groups(effects.contrasts)]
    for contrast in effects.contrasts:
        if contrast.verdict != IDENTICAL:
            found.append((abs(contrast.estimate.value), _claim(effects.measure, contrast)))
    found.sort(key=lambda item: (ORDER.index(item[1].verdict), -item[0]))
    crosses = [_interaction(effects.measure, cross) for cross in effects.interactions]
    seen = [c for c in crosses if c.verdict == BETTER]
    return [*(claim for _, claim in found), *seen, *(c for c in crosses if c.verdict != BETTER)]


def contrast_words(measure: Measure, contrast: Contrast) -> tuple[str, str]:
    """(difference, 95 % interval) of a contrast, as the effects table shows them."""
    size, interval = contrast.estimate.value, contrast.estimate.interval()
    if interval is None:
        return signed(measure, size, size), "—"
    half = (interval[1] - interval[0]) / 2
    low, high = (signed(measure, end, half or size) for end in interval)
    return signed(measure, size, half or size), f"{low} to {high}"


def _claim(measure: Measure, c: Contrast) -> Claim:
    say = {UNTESTED: _untested, BETTER: _better, EQUAL: _equal, OPEN: _undecided}[c.verdict]
    return Claim(say(measure, c, _about(measure, c.factor), _basis(c)), c.verdict)


def _basis(c: Contrast) -> str:
    """What the comparison rests on: paired seeds, and the settings that both levels have."""
    basis = plural(c.seeds, "n = {n} paired seed", "n = {n} paired seeds")
    if not c.seeds:
        basis = _("no seed has both: compared through other configurations")
    if c.met == c.settings:
        return basis
    return _(
        "{basis}, in the {met} of {settings} settings that both have",
        basis=basis, met=c.met, settings=c.settings,
    )  # fmt: skip


def _ordered(measure: Measure, c: Contrast) -> tuple[str, str]:
    """(better level, worse level)."""
    turn = -1 if measure.lower_is_better else 1
    return (c.a, c.b) if c.estimate.value * turn >= 0 else (c.b, c.a)


def _untested(measure: Measure, c: Contrast, about: str, basis: str) -> str:
    good, bad = _ordered(measure, c)
    return _(
        "{about}: {good} is {size} {bad}, not tested: without repeated seeds chance cannot be told "
        "from effect.",
        about=about, good=good, size=_ahead(measure, abs(c.estimate.value)), bad=bad,
    )  # fmt: skip


def _better(measure: Measure, c: Contrast, about: str, basis: str) -> str:
    low, high = c.estimate.interval() or (0.0, 0.0)
    size, half = abs(c.estimate.value), (high - low) / 2
    small = size + half < measure.margin and not measure.is_ratio
    note = _("; less than the practical margin of {margin:g}", margin=measure.margin)
    return _(
        "{about}: {beats} (95 %, {basis}, Holm p {p}{note}).",
        about=about, beats=_beats(measure, *_ordered(measure, c), size, half), basis=basis,
        p=equals(c.p), note=note if small else "",
    )  # fmt: skip


def _equal(measure: Measure, c: Contrast, about: str, basis: str) -> str:
    return _(
        "{about}: no difference larger than {margin} between {a} and {b} (measured {range}, 95 %, "
        "{basis}, Holm p {p} of a larger one).",
        about=about, margin=sized(measure, measure.margin), a=c.a, b=c.b,
        range=_range(measure, *(c.estimate.interval() or (0.0, 0.0))), basis=basis,
        p=equals(c.p_beyond),
    )  # fmt: skip


def _undecided(measure: Measure, c: Contrast, about: str, basis: str) -> str:
    power = _("; 80 % power from {size} on", size=sized(measure, c.detectable))
    return _(
        "{about}: undecided between {a} and {b}: {range} for {a} (95 %, {basis}, Holm p {p}"
        "{power}).",
        about=about, a=c.a, b=c.b, range=_range(measure, *(c.estimate.interval() or (0.0, 0.0))),
        basis=basis, p=equals(c.p), power=power if c.detectable else "",
    )  # fmt: skip


def _identical_groups(contrasts: list[Contrast]) -> list[tuple[str, list[str], Contrast]]:
    """(factor, levels that never differ in the last bit, one of their contrasts)."""
    groups: list[tuple[str, list[str], Contrast]] = []
    for c in (c for c in contrasts if c.verdict == IDENTICAL):
        known = next((g for g in groups if g[0] == c.factor and {c.a, c.b} & set(g[1])), None)
        if known is None:
            groups.append((c.factor, [c.a, c.b], c))
        else:
            known[1].extend(level for level in (c.a, c.b) if level not in known[1])
    return groups


def _identical(effects: Effects, group: tuple[str, list[str], Contrast]) -> tuple[float, Claim]:
    factor, levels, c = group
    names = f"{', '.join(levels[:-1])} and {levels[-1]}"
    text = _(
        "{factor}: {names} give the same {label} to the last bit wherever they were "
        "compared ({paired}).",
        factor=factor,
        names=names,
        label=inside(effects.measure.label),
        paired=plural(c.seeds, "n = {n} paired seed", "n = {n} paired seeds"),
    )
    return 0.0, Claim(text, IDENTICAL)


def _interaction(measure: Measure, cross: Interaction) -> Claim:
    pair = _about(measure, " × ".join(cross.factors))
    test = f"F({cross.freedom[0]}, {cross.freedom[1]}) = {cross.f:.3g}, Holm p {equals(cross.p)}"
    if cross.p < 0.05:
        return Claim(
            _(
                "{pair}: they interact ({test}); the differences above are"
                " averages, read the rows.",
                pair=pair,
                test=test,
            ),
            BETTER,
        )
    return Claim(
        _(
            "{pair}: no interaction detected ({test}), which does not prove that there is none.",
            pair=pair,
            test=test,
        ),
        OPEN,
    )


def _about(measure: Measure, factor: str) -> str:
    """The factor, and the metric if it is one by length; a ratio names its metric anyway."""
    at_a_place = has_place(measure.key) and not measure.is_ratio
    return f"{factor}, {inside(measure.label)}" if at_a_place else factor


def _ahead(measure: Measure, size: float) -> str:
    word = "below" if measure.lower_is_better else "above"
    return f"{sized(measure, size)} {word}"


def _beats(measure: Measure, good: str, bad: str, size: float, half: float) -> str:
    """`rope beats alibi by 0.042 ± 0.006 nats`; `paged has 12 % more tokens/s than none (…)`."""
    if not measure.is_ratio:
        digits = decimals(half or size)
        return _(
            "{good} beats {bad} by {size} ± {half}{measure}",
            good=good,
            bad=bad,
            size=f"{size:.{digits}f}",
            half=f"{half:.{digits}f}",
            measure=unit_of(measure),
        )
    label = inside(measure.label)
    if measure.lower_is_better:
        value, low, high = (percent(1 - ratio(-x)) for x in (size, size - half, size + half))
        return _(
            "{good} takes {value} less {label} than {bad} ({low} to {high})",
            good=good,
            value=value,
            label=label,
            bad=bad,
            low=low,
            high=high,
        )
    if size > math.log(2):
        value, low, high = (times(ratio(x)) for x in (size, size - half, size + half))
        return _(
            "{good} has {value} times the {label} of {bad} ({low} to {high})",
            good=good,
            value=value,
            label=label,
            bad=bad,
            low=low,
            high=high,
        )
    value, low, high = (percent(ratio(x) - 1) for x in (size, size - half, size + half))
    return _(
        "{good} has {value} more {label} than {bad} ({low} to {high})",
        good=good,
        value=value,
        label=label,
        bad=bad,
        low=low,
        high=high,
    )


def _range(measure: Measure, low: float, high: float) -> str:
    unit = f" {inside(measure.label)}" if measure.is_ratio else unit_of(measure)
    half = (high - low) / 2
    return f"{signed(measure, low, half)} to {signed(measure, high, half)}{unit}"


def interleave(lists: list[list[Claim]], limit: int | None = None) -> list[Claim]:
    """The first claims of each list in turn, up to the limit."""
    rounds = itertools.zip_longest(*lists)
    return [claim for some in rounds for claim in some if claim is not None][:limit]
