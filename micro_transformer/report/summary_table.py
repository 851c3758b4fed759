"""The summary table: quality and costs, one row per configuration."""

from micro_transformer.records.cells import Cell, Table, cost_cell, figure, metric_cell
from micro_transformer.records.metrics import MS_PER_BATCH, RSS, TOKENS_PER_S, VRAM, measure, places
from micro_transformer.records.rows import Board, Row, Setting, setting_of
from micro_transformer.records.run_record import OK
from micro_transformer.records.shared_seeds import seeds_of
from micro_transformer.records.tables import shown_quality
from micro_transformer.wording import _, plural


def brief(board: Board) -> Table:
    """Config | quality mean ± std | Tokens/s | Peak memory | ms/batch | n | seeds."""
    quality = shown_quality(board)
    table = Table(
        board.title,
        [_("Config"), _("{title} mean ± std", title=quality.title) if quality else _("Result")],
    )
    seeds = seeds_of(board.rows, quality.key if quality else None)
    on_shared = quality if seeds.differ and seeds.shared else None
    if on_shared:
        table.columns.append(
            _("{title} on seeds {names}", title=on_shared.title, names=seeds.names)
        )
    settings = _measured_settings(board)
    for setting in settings:
        place = f" [{setting}]" if len(settings) > 1 else ""
        table.columns += [f"{title}{place}" for title, _ in _costs(board, setting)]
    table.columns += ["n", _("Seeds")]
    table.note = (
        _("Measured on {settings}.", settings=settings[0]) if len(board.settings) == 1 else ""
    )
    shown = [row for row in board.rows if not row.is_invalid] or board.rows
    if hidden := len(board.rows) - len(shown):
        table.note += _(
            " {value} not shown.",
            value=plural(hidden, "{n} invalid combination", "{n} invalid combinations"),
        )
    table.note += f" {seeds.warning}." if seeds.warning else ""
    table.note = table.note.strip()
    for row in shown:
        cells = [Cell(row.name, row.name), _quality_cell(row, quality.key if quality else None)]
        if on_shared:
            cells.append(figure(row.summary(on_shared.key, seeds=seeds.shared)))
        for setting in settings:
            cells += [cost_cell(row, key, setting) for _, key in _costs(board, setting)]
        total = len(row.ok) + len(row.bad) + len(row.missing)
        n = f"{len(row.ok)}" if len(row.ok) == total else f"{len(row.ok)}/{total}"
        table.rows.append([*cells, Cell(n, len(row.ok)), Cell(_seeds(row), _seeds(row))])
    return table


def _measured_settings(board: Board) -> list[Setting]:
    """Settings in which the summary's costs were measured; without any, the first setting."""
    found = [
        setting
        for setting in board.settings
        for keys in [{key for _, key in _costs(board, setting)}]
        if any(keys & set(r.cost) for r in board.records if setting_of(r) == setting)
    ]
    return found or board.settings[:1]


def _costs(board: Board, setting: Setting) -> list[tuple[str, str]]:
    """(title, key) of the summary's costs; where none was measured, of those at the longest
    context, if there are any."""
    memory = VRAM if setting.device == "cuda" else RSS
    usual = [("Tokens/s", TOKENS_PER_S.key), (_memory(setting), memory.key),
             ("ms/batch", MS_PER_BATCH.key)]  # fmt: skip
    there = {key for record in board.records for key in record.cost}
    known = [
        places(there, start) for start in ("cache/tokens_per_s", "cache/rss_gb", "cache/bytes")
    ]
    farthest = [measure(keys[max(keys)]) for keys in known if keys]
    if not farthest or any(key in there for _, key in usual):
        return usual
    return [(m.title, m.key) for m in farthest]


def _quality_cell(row: Row, key: str | None) -> Cell:
    if not row.ok:
        return Cell(row.reason)
    return Cell(OK) if key is None else metric_cell(row, key)


def _memory(setting: Setting) -> str:
    return _("Peak VRAM (GB)") if setting.device == "cuda" else _("Peak memory (RSS, GB)")


def _seeds(row: Row) -> str:
    """`42, 43 (44: killed)`."""
    lost = [f"{r.seed}: {r.status}" for r in row.bad] + [f"{s}: missing" for s in row.missing]
    good = ", ".join(map(str, row.seeds))
    return " ".join(part for part in (good, f"({', '.join(lost)})" if lost else "") if part)
