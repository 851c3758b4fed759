"""Reads a folder of records and leaves the report beside them."""

from dataclasses import dataclass
from pathlib import Path

from micro_transformer import tables
from micro_transformer.results import load_records
from micro_transformer.rows import Board, collect
from micro_transformer.store import write_file


@dataclass
class Report:
    """What was made: the text for a terminal, where the files lie, what is missing."""

    text: str
    files: list[Path]
    gaps: list[str]


def write_report(folder: Path, out: Path | None = None, mix: bool = False) -> Report:
    """report.md and runs.csv lie in `out` (default: the folder). ValueError: no record there."""
    loaded = load_records(folder)
    if not loaded.records:
        raise ValueError(
            f"{folder}: holds no record ({len(loaded.skipped)} damaged or foreign files); "
            "name a folder that a sweep has written, such as multirun/demo"
        )
    boards = collect(loaded.records, mix)
    gaps = [gap for board in boards for gap in board.gaps()]
    if loaded.skipped:
        gaps.append(f"{len(loaded.skipped)} files skipped, first: {_place(loaded.skipped[0])}")
    out = out or folder
    files = {"report.md": _markdown(boards, gaps), "runs.csv": tables.runs_csv(boards)}
    for name, text in files.items():
        write_file(out / name, text.encode())
    text = "\n\n".join(tables.as_text(tables.brief(board)) for board in boards)
    return Report(text, [out / name for name in files], gaps)


def _markdown(boards: list[Board], gaps: list[str]) -> str:
    parts = ["# Report", ""]
    for board in boards:
        parts += [tables.as_markdown(tables.brief(board)), tables.as_markdown(tables.speed(board))]
        if any(row.bad for row in board.rows):
            parts.append(tables.as_markdown(tables.without_result(board)))
    if gaps:
        parts += ["### Gaps", "", *(f"- {tables.markdown(gap)}" for gap in gaps), ""]
    return "\n".join(parts)


def _place(skipped: tuple[Path, str]) -> str:
    return f"{skipped[0]}: {skipped[1]}"
