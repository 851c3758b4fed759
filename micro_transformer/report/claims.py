"""Effects in sentences, each bound to its test."""

import itertools
import math
from dataclasses import dataclass

from scipy import stats

from micro_transformer.records.cells import figure
from micro_transformer.records.metrics import Measure, has_place
from micro_transformer.records.rows import Board, Row, Summary, reason, shared_name
from micro_transformer.records.shared_seeds import seeds_of
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
from micro_transformer.stats.power_law import PowerLaw
from micro_transformer.wording import plural

ORDER = (BETTER, EQUAL, IDENTICAL, OPEN, UNTESTED)


@dataclass(frozen=True)
class Claim:
    """A sentence and its verdict (one of those of a contrast, or `fact`)."""

    text: str
    verdict: str = "fact"


def claims(effects: Effects) -> list[Claim]:
    """What the comparisons say: differences (largest first), equalities, then what stays open."""
    found = [_identical(effects, group) for group in _identical_groups(effects.contrasts)]
    for contrast in effects.contrasts:
        if contrast.verdict != IDENTICAL:
            found.append((abs(contrast.estimate.value), _claim(effects.measure, contrast)))
    found.sort(key=lambda item: (ORDER.index(item[1].verdict), -item[0]))
    crosses = [_interaction(effects.measure, cross) for cross in effects.interactions]
    seen = [c for c in crosses if c.verdict == BETTER]
    return [*(claim for _, claim in found), *seen, *(c for c in crosses if c.verdict != BETTER)]


def noise(effects: Effects) -> list[Claim]:
    """The noise floor and what this sweep could have seen."""
    found = []
    measure = effects.measure
    if effects.sigma and effects.df > 0:
        least = effects.sigma * math.sqrt(2) * float(stats.t.ppf(0.975, effects.df))
        found.append(
            f"Noise floor: runs of one configuration scatter by {sized(measure, effects.sigma)} "
            f"around their seed ({plural(effects.df, '{n} degree', '{n} degrees')} of freedom). Two single runs on "  # noqa: E501
            f"one seed that differ by less than {sized(measure, least)} show nothing."
        )
    seen: dict[str, float] = {}
    for c in effects.contrasts:
        if c.detectable:
            seen[c.factor] = max(seen.get(c.factor, 0.0), c.detectable)
    if seen:
        parts = ", ".join(f"{sized(measure, d)} for {factor}" for factor, d in seen.items())
        found.append(
            "Smallest difference that a sweep like this one finds with 80 % power, corrected for "
            f"{plural(effects.family, '{n} test', '{n} tests')}: {parts}."
        )
    return [Claim(text) for text in found]


def scatter(board: Board, key: str, label: str) -> list[Claim]:
    """The largest deviation over seeds, as a share of the mean; identical seeds are suspicious."""
    shares: list[tuple[float, Row, Summary]] = []
    for row in board.rows:
        summary = row.summary(key)
        if summary.std is not None and summary.mean:
            shares.append((summary.std / abs(summary.mean), row, summary))
    if not shares:
        return []
    share, _, summary = max(shares, key=lambda item: item[0])
    name = shared_name([row for _, row, s in shares if s == summary])
    found = [
        Claim(
            f"{label} scatters over seeds by at most {100 * share:.2f} % of the mean "
            f"({name}, n = {summary.n})."
        )
    ]
    # a share of right answers may be 1 for every seed
    frozen = [row.name for share, row, s in shares if share == 0 and s.mean != 1]
    if frozen:
        found.append(
            Claim(
                f"Different seeds gave the very same {label} in "
                f"{plural(len(frozen), '{n} configuration', '{n} configurations')}, first {frozen[0]}: "  # noqa: E501
                "the seed may not reach the training.",
                UNTESTED,
            )
        )
    return found


def best(board: Board, key: str, measure: Measure, label: str) -> list[Claim]:
    """The row with the best mean over the seeds that all rows have: a description, no test."""
    rows = [row for row in board.rows if row.summary(key).mean is not None]
    if len(rows) < 2 or board.mixed:
        return []
    seeds = seeds_of(rows, key)
    if not seeds.shared:
        return [Claim(f"No configuration is called the best: {inside(seeds.warning)}.", "note")]
    known = [(row, row.summary(key, seeds=seeds.shared)) for row in rows]
    choose = min if measure.lower_is_better else max
    summary = choose((s for _, s in known), key=lambda s: s.mean or 0.0)
    alike = [row for row, s in known if s == summary]
    where = f" on the seeds that all have ({seeds.names})" if seeds.differ else ""
    if len(alike) == len(known):
        same = f"All {len(known)} configurations have the same {label}{where}, {summary.mean:.3g}."
        return [Claim(same)]
    lost = "".join(f"; it has no result of seed {r.seed} ({reason(r)[:60]})" for r in alike[0].bad)
    return [
        Claim(
            f"Best mean {label} of {len(known)} configurations{where}: {shared_name(alike)} with "
            f"{figure(summary).text} (std, n = {summary.n}); the mean of "
            f"a winner is optimistic (best of many){lost}."
        )
    ]


def slope(law: PowerLaw) -> Claim:
    """How PPL goes with size; a trend only where the interval holds no 0."""
    size = f"params^{law.exponent:.3f}".replace("-", "−")
    interval = f"95 %: {law.low:.3f} to {law.high:.3f}".replace("-", "−")
    verb, end = ("falls", "") if law.high < 0 else ("rises", "") if law.low > 0 else (
        "goes", ", which holds 0: no trend is shown")  # fmt: skip
    return Claim(
        f"PPL {verb} as {size} ({interval}{end}; {law.sizes} sizes, the error is that of their "
        "means around the line)."
    )


def contrast_words(measure: Measure, contrast: Contrast) -> tuple[str, str]:
    """(difference, 95 % interval) of a contrast, as the effects table shows them."""
    size, interval = contrast.estimate.value, contrast.estimate.interval()
    if interval is None:
        return signed(measure, size, size), "—"
    half = (interval[1] - interval[0]) / 2
    low, high = (signed(measure, end, half or size) for end in interval)
    return signed(measure, size, half or size), f"{low} to {high}"


def _claim(measure: Measure, c: Contrast) -> Claim:
    turn = -1 if measure.lower_is_better else 1
    good, bad = (c.a, c.b) if c.estimate.value * turn >= 0 else (c.b, c.a)
    where = (
        "" if c.met == c.settings else f", in the {c.met} of {c.settings} settings that both have"
    )
    paired = f"n = {c.seeds} paired seed{'' if c.seeds == 1 else 's'}"
    basis = (paired if c.seeds else "no seed has both: by way of other configurations") + where
    size = abs(c.estimate.value)
    about = _about(measure, c.factor)
    if c.verdict == UNTESTED:
        return Claim(
            f"{about}: {good} is {_ahead(measure, size)} {bad}, not tested: "
            "without repetitions chance cannot be told from effect.",
            UNTESTED,
        )
    low, high = c.estimate.interval() or (0.0, 0.0)
    half = (high - low) / 2
    if c.verdict == BETTER:
        small = size + half < measure.margin and not measure.is_ratio
        note = f"; less than the {measure.margin:g} that matters" if small else ""
        return Claim(
            f"{about}: {_beats(measure, good, bad, size, half)} "
            f"(95 %, {basis}, Holm p {equals(c.p)}{note}).",
            BETTER,
        )
    if c.verdict == EQUAL:
        return Claim(
            f"{about}: no difference larger than {sized(measure, measure.margin)} between {c.a}"
            f" and {c.b} (measured {_range(measure, low, high)}, 95 %, {basis}, "
            f"Holm p {equals(c.p_beyond)} of a larger one).",
            EQUAL,
        )
    found = f"; 80 % power from {sized(measure, c.detectable)} on" if c.detectable else ""
    return Claim(
        f"{about}: undecided between {c.a} and {c.b}: {_range(measure, low, high)} for {c.a} "
        f"(95 %, {basis}, Holm p {equals(c.p)}{found}).",
        OPEN,
    )


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
    text = (
        f"{factor}: {names} give the same {inside(effects.measure.label)} to the last bit "
        f"wherever they were compared (n = {c.seeds} paired seed{'' if c.seeds == 1 else 's'})."
    )
    return 0.0, Claim(text, IDENTICAL)


def _interaction(measure: Measure, cross: Interaction) -> Claim:
    pair = _about(measure, " × ".join(cross.factors))
    test = f"F({cross.freedom[0]}, {cross.freedom[1]}) = {cross.f:.3g}, Holm p {equals(cross.p)}"
    if cross.p < 0.05:
        return Claim(
            f"{pair}: what one does depends on the other ({test}); "
            "the differences above are averages, read the rows.",
            BETTER,
        )
    return Claim(f"{pair}: no interaction seen ({test}); that is no proof of none.", OPEN)


def _about(measure: Measure, factor: str) -> str:
    """The factor, and the place of a figure that has one; a ratio names its figure anyway."""
    at_a_place = has_place(measure.key) and not measure.is_ratio
    return f"{factor}, {inside(measure.label)}" if at_a_place else factor


def _ahead(measure: Measure, size: float) -> str:
    word = "below" if measure.lower_is_better else "above"
    return f"{sized(measure, size)} {word}"


def _beats(measure: Measure, good: str, bad: str, size: float, half: float) -> str:
    """`rope beats alibi by 0.042 ± 0.006 nats`; `paged has 12 % more tokens/s than none (…)`."""
    if not measure.is_ratio:
        digits = decimals(half or size)
        return f"{good} beats {bad} by {size:.{digits}f} ± {half:.{digits}f}{unit_of(measure)}"
    label = inside(measure.label)
    if measure.lower_is_better:
        value, low, high = (percent(1 - ratio(-x)) for x in (size, size - half, size + half))
        return f"{good} takes {value} less {label} than {bad} ({low} to {high})"
    if size > math.log(2):
        value, low, high = (times(ratio(x)) for x in (size, size - half, size + half))
        return f"{good} has {value} times the {label} of {bad} ({low} to {high})"
    value, low, high = (percent(ratio(x) - 1) for x in (size, size - half, size + half))
    return f"{good} has {value} more {label} than {bad} ({low} to {high})"


def _range(measure: Measure, low: float, high: float) -> str:
    unit = f" {inside(measure.label)}" if measure.is_ratio else unit_of(measure)
    half = (high - low) / 2
    return f"{signed(measure, low, half)} to {signed(measure, high, half)}{unit}"


def interleave(lists: list[list[Claim]], limit: int | None = None) -> list[Claim]:
    """The first claims of each list in turn, up to the limit."""
    rounds = itertools.zip_longest(*lists)
    return [claim for some in rounds for claim in some if claim is not None][:limit]
