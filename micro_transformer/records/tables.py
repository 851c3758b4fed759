"""Tables from rows: text for people, values for sorting, and the escaping each format needs."""

import csv
import io
import re
from collections.abc import Callable
from dataclasses import replace

from tabulate import tabulate

from micro_transformer.records.cells import NOT_MEASURED, Cell, Table, cost_cell, metric_cell
from micro_transformer.records.metrics import PPL, SPEED, VRAM, Measure, has_place, is_beside
from micro_transformer.records.metrics import measure as measure_of
from micro_transformer.records.metrics import quality as quality_of
from micro_transformer.records.rows import ABSENT, Board, setting_of, value_of
from micro_transformer.records.run_record import OK, flat
from micro_transformer.records.shared_seeds import seeds_of
from micro_transformer.wording import _, printable


def all_metrics(board: Board) -> Table:
    """Every metric that any row has, mean ± std; those with places, their counts and baselines have
    tables of their own."""
    there = {key for record in board.records for key in record.metrics}
    keys = sorted(key for key in there if not (has_place(key) or is_beside(key)))
    table = Table(
        _("All metrics: {title}", title=board.title),
        [_("Config"), *(measure_of(k).title for k in keys)],
    )
    table.note = seeds_of(board.rows).warning
    for row in board.rows:
        cells = [metric_cell(row, key) for key in keys]
        table.rows.append([Cell(row.name, row.name), *cells])
    return table


def speed(board: Board) -> Table:
    """Every cost that was measured, one line a configuration and setting."""
    keys = [m.key for m in SPEED]
    others = {key for record in board.records for key in record.cost if not has_place(key)}
    keys += sorted(others - set(keys))
    known = [k for k in keys if k == VRAM.key or any(k in r.cost for r in board.records)]
    titles = [measure_of(key).title for key in known]
    table = Table(
        _("Speed and memory: {title}", title=board.title),
        [_("Config"), _("Measured on"), *titles, "n"],
    )
    for row in board.rows:
        for setting in sorted({setting_of(record) for record in row.ok}):
            cells = [cost_cell(row, key, setting) for key in known]
            n = sum(setting_of(record) == setting for record in row.ok)
            named = [Cell(row.name, row.name), Cell(setting, setting)]
            table.rows.append([*named, *cells, Cell(str(n), n)])
    return table


def without_result(board: Board) -> Table:
    """Each run that gave no result, and why."""
    table = Table(
        _("Runs without a result: {title}", title=board.title),
        [_("Config"), _("Seed"), _("Status"), _("Why")],
    )
    for row in board.rows:
        for record in row.bad:
            words = (row.name, record.seed, record.status, record.error or ABSENT)
            table.rows.append([Cell(str(word), word) for word in words])
    return table


def shown_quality(board: Board) -> Measure | None:
    """The measure in the quality column: PPL where there is a loss."""
    known = {k for r in board.records for k, v in r.metrics.items() if v is not None}
    quality = quality_of(known)
    return PPL if quality and quality.key == "val/loss" and PPL.key in known else quality


def filled(table: Table) -> Table:
    """The table without the columns that have no value in any row; the note names those that were
    asked for, and why where that is known."""
    columns = list(zip(*table.rows, strict=True))
    empty = [all(map(_is_absent, cells)) for cells in columns]
    if not any(empty):
        return table
    lost = []
    for name, cells, nothing in zip(table.columns, columns, empty, strict=True):
        whys = dict.fromkeys(cell.text for cell in cells if cell.text != ABSENT)
        if nothing and whys:
            known = "; ".join(why.removeprefix(f"{NOT_MEASURED}: ") for why in whys if ":" in why)
            lost.append(f"{name} ({known})" if known else name)
    note = (
        _("{not_measured} in every row: {lost}.", not_measured=NOT_MEASURED, lost=", ".join(lost))
        if lost
        else ""
    )

    def kept(line: list) -> list:
        return [item for item, nothing in zip(line, empty, strict=True) if not nothing]

    note = " ".join(part for part in (table.note, note) if part)
    return replace(table, columns=kept(table.columns), rows=list(map(kept, table.rows)), note=note)


def _is_absent(cell: Cell) -> bool:
    return cell.value is None and cell.text.split(":")[0] in (ABSENT, NOT_MEASURED)


def as_text(table: Table) -> str:
    """Aligned columns for a terminal, without control characters."""
    table = filled(table)
    grid = _grid(table, "simple", printable)
    lines = [printable(table.title), *(line.rstrip() for line in grid.split("\n"))]
    return "\n".join([*lines, *([table.note] if table.note else [])])


def as_markdown(table: Table) -> str:
    """A GitHub table under its title; cells are escaped."""
    table = filled(table)
    note = [markdown(table.note), ""] if table.note else []
    grid = _grid(table, "github", markdown)
    return "\n".join([f"### {markdown(table.title)}", "", *note, grid, ""])


def _grid(table: Table, look: str, escape: Callable[[str], str]) -> str:
    rows = [[escape(cell.text) for cell in row] for row in table.rows]
    return tabulate(rows, list(map(escape, table.columns)), look, disable_numparse=True)


def runs_csv(boards: list[Board]) -> str:
    """Every record as one line, results and failures alike."""
    rows = [row for board in boards for row in board.rows]
    records = [(row, record) for row in rows for record in (*row.ok, *row.bad)]
    lines = [
        {"config": row.name, "setting": setting_of(record)} | flat(record)
        for row, record in records
    ]
    for line, (_row, record) in zip(lines, records, strict=True):
        if record.status == OK and VRAM.key in line:
            line[VRAM.key] = value_of(record, VRAM.key)
    header = list(dict.fromkeys(key for line in lines for key in line))
    return csv_text([header, *([line.get(key) for key in header] for line in lines)])


def csv_text(rows: list[list]) -> str:
    """Rows as CSV; a text that starts with = + - or @ gets a quote, control characters go."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([[_csv_cell(v) for v in row] for row in rows])
    return out.getvalue()


def markdown(text: str) -> str:
    """Text that renders as itself in a Markdown table cell."""
    text = printable(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = re.sub(r"([\\`*{}\[\]|~#!])", r"\\\1", text)
    return re.sub(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\\_", text)


def _csv_cell(value: object) -> object:
    if not isinstance(value, str):
        return value
    text = printable(value)
    is_formula = text.lstrip()[:1] in tuple("=+-@") and text.strip() != "-"
    return f"'{text}" if is_formula else text
