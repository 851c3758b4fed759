"""A table and its cells: text for people, values for sorting."""

from dataclasses import dataclass, field

from micro_transformer.records.absence import absence
from micro_transformer.records.rows import ABSENT, Row, Summary

NOT_MEASURED = "n/a"


@dataclass(frozen=True)
class Cell:
    """What is shown and what it sorts by (None: last)."""

    text: str
    value: float | str | None = None


class Code(Cell):
    """A command or other text for a computer."""


@dataclass
class Table:
    """Columns, rows of cells, and what a reader must know of them."""

    title: str
    columns: list[str]
    rows: list[list[Cell]] = field(default_factory=list)
    note: str = ""


def figure(summary: Summary, absent: str = ABSENT) -> Cell:
    """`5.05 ± 0.03`, to two digits of the deviation; `5.05 ± —` for one value."""
    if summary.mean is None:
        return Cell(absent)
    digits = decimals(summary)
    spread = ABSENT if summary.std is None else f"{summary.std:.{digits}f}" if summary.std else "0"
    mean = (
        f"{summary.mean:,.{digits}f}" if abs(summary.mean) >= 1e4 else f"{summary.mean:.{digits}f}"
    )
    return Cell(f"{mean} ± {spread}", summary.mean)


def metric_cell(row: Row, key: str) -> Cell:
    """A metric, how many seeds have it when not all do; `n/a` and why where none could."""
    if not row.ok:
        return Cell(ABSENT)
    summary = row.summary(key)
    if summary.mean is None:
        why = absence(row.ok[0], key)
        return Cell(f"{NOT_MEASURED}: {why}" if why else ABSENT)
    cell = figure(summary)
    return cell if summary.n == len(row.ok) else Cell(f"{cell.text} (n = {summary.n})", cell.value)


def cost_cell(row: Row, key: str, setting: str) -> Cell:
    """A cost in one setting, `n/a` where it could not be measured."""
    if not row.ok:
        return Cell(ABSENT)
    return figure(row.summary(key, setting), NOT_MEASURED)


def decimals(summary: Summary) -> int:
    """Decimals that show two digits of the deviation, or three of a mean without one; 0 to 4."""
    size, digits = (summary.std, 2) if summary.std else (abs(summary.mean or 0), 3)
    if not size:
        return 2
    return min(4, max(0, digits - 1 - int(f"{size:e}".split("e")[1])))
