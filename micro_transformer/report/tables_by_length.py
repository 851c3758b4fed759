"""Tables of metrics by length: position, context, distance."""

from micro_transformer.records.cells import Cell, Table, metric_cell
from micro_transformer.records.metrics import places, stretches
from micro_transformer.records.rows import Board, value_of
from micro_transformer.records.shared_seeds import seeds_of
from micro_transformer.wording import N_, _, translate

TITLES = {
    "context/loss": N_("Loss of the same targets under growing context (nats)"),
    "recall/accuracy": N_("Recall by distance (accuracy)"),
    "needle/accuracy": N_("Needle by distance (accuracy)"),
    "cache/bytes": N_("Cache against context (bytes)"),
    "cache/predicted_bytes": N_("Cache against context, predicted (bytes)"),
    "cache/rss_gb": N_("Peak RSS against context (GB)"),
    "cache/tokens_per_s": N_("Tokens/s against context"),
}
BASELINES = ("trained_length", "chance", "majority")


def tables_by_place(board: Board) -> list[Table]:
    """A table per family of metrics by length that any run of the board has; a cell of a value that
    could not be measured says why."""
    keys = {key for r in board.records for key in (*r.metrics, *r.cost)}
    columns = stretches(keys)
    counts = {name: f"n/{name}" for name in columns}
    found = [_table(board, _("PPL by position"), columns, counts)]
    for start, title in TITLES.items():
        named = {str(place): key for place, key in places(keys, start).items()}
        family = start.split("/")[0]
        counts = {str(d): key for d, key in places(keys, f"{family}/n").items()}
        beside = {name: f"{family}/{name}" for name in BASELINES} if "accuracy" in start else {}
        beside = {name.replace("_", " "): k for name, k in beside.items() if named and k in keys}
        found.append(
            _table(board, translate(title), beside | named, counts or {"each": f"{family}/n"})
        )
    return [table for table in found if table.columns[1:-1]]


def _table(board: Board, title: str, columns: dict[str, str], counts: dict[str, str]) -> Table:
    """Config, one column per length, n."""
    table = Table(
        f"{title}: {board.title}", [_("Config"), *columns, "n"], note=_note(board, counts)
    )
    for row in board.rows:
        if any(key in r.metrics or key in r.cost for r in row.ok for key in columns.values()):
            cells = [metric_cell(row, key) for key in columns.values()]
            n = Cell(str(len(row.ok)), len(row.ok))
            table.rows.append([Cell(row.name, row.name), *cells, n])
    return table


def _note(board: Board, counts: dict[str, str]) -> str:
    """Number of targets or answers per value, and whether means can be compared."""
    warning = seeds_of(board.rows).warning
    return " ".join(filter(None, (_counted(board, counts), warning and f"{warning}.")))


def _counted(board: Board, counts: dict[str, str]) -> str:
    most = {
        place: max((int(value_of(r, key) or 0) for r in board.records), default=0)
        for place, key in counts.items()
    }
    known = {place: n for place, n in most.items() if n}
    if len(set(known.values())) == 1:
        return _(
            "{values:,} targets or answers per run and figure.", values=next(iter(known.values()))
        )
    parts = ", ".join(f"{place}: {n:,}" for place, n in known.items())
    return _("Targets or answers per run: {parts}.", parts=parts) if parts else ""
