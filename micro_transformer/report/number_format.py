"""Formats numbers in sentences: two digits of the uncertainty, visible signs, units."""

import math
from collections.abc import Collection

from micro_transformer.records.metrics import Measure, has_place
from micro_transformer.wording import _


def p_text(p: float | None) -> str:
    """`0.004`, `< 0.001`, or a dash."""
    return "—" if p is None else "< 0.001" if p < 0.001 else f"{p:.2g}" if p < 0.1 else f"{p:.2f}"


def signed(measure: Measure, value: float, size: float) -> str:
    """The value with its sign, to two digits of `size`; of a ratio as a share."""
    if measure.is_ratio:
        return percent(ratio(value) - 1, "+")
    return f"{value:+.{decimals(size)}f}".replace("-", "−")


def sized(measure: Measure, value: float | None) -> str:
    """A difference without sign, with its unit; of a ratio as a share; a dash for none."""
    if value is None:
        return "—"
    if measure.is_ratio:
        return percent(ratio(value) - 1) if value != measure.margin else f"{100 * value:g} %"
    return f"{value:.{decimals(value)}f}{unit_of(measure)}"


def unit_of(measure: Measure) -> str:
    """Suffix of a difference: its unit, or the metric if the sentence has not named it."""
    if measure.unit or has_place(measure.key):
        return measure.unit and f" {measure.unit}"
    return f" of {inside(measure.label)}"


def percent(share: float, sign: str = "") -> str:
    """A share in percent, to a tenth below ten."""
    digits = 0 if abs(share) >= 0.1 else 1
    return f"{100 * share:{sign}.{digits}f} %".replace("-", "−")


def times(ratio: float) -> str:
    """Three digits: `4.83`, `178`."""
    return f"{ratio:#.3g}".rstrip(".") if ratio < 999.5 else f"{ratio:,.0f}"


def span(values: Collection[float]) -> str:
    """`20.9`, `20.9 to 21.4`: the least and the largest, to three digits."""
    low, high = times(min(values)), times(max(values))
    return low if low == high else _("{low} to {high}", low=low, high=high)


def with_prefix(values: Collection[float]) -> tuple[str, str]:
    """(span, SI prefix) of positive numbers: `1.71`, `T`."""
    power = max(0, math.floor(math.log10(float(f"{max(values):.2e}"))) // 3)
    return span([value / 1000**power for value in values]), "kMGTPEZ"[power - 1 : power]


def inside(label: str) -> str:
    """The label in the middle of a sentence: acronyms stay."""
    return label[:1].lower() + label[1:] if label[1:2].islower() else label


def ratio(value: float) -> float:
    """Of a logarithm; what is beyond a float's reach ends at its edge."""
    return math.exp(min(value, 700.0))


def equals(p: float | None) -> str:
    """`= 0.004`, `< 0.001`."""
    return p_text(p) if p is not None and p < 0.001 else f"= {p_text(p)}"


def decimals(value: float) -> int:
    """Decimals that show two digits of a value, 2 to 5."""
    size = abs(value)
    return 3 if not size else min(5, max(2, 1 - math.floor(math.log10(size))))
