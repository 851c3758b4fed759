"""Reads a folder of records and writes the report into it."""

import shlex
from dataclasses import dataclass
from pathlib import Path

from micro_transformer.records import tables
from micro_transformer.records.cells import Table
from micro_transformer.records.record_files import load_records
from micro_transformer.records.rows import collect
from micro_transformer.report.drawn import Drawn
from micro_transformer.report.figures import draw
from micro_transformer.report.page import page
from micro_transformer.report.study import Study, across, study
from micro_transformer.report.summary_table import brief
from micro_transformer.store.checkpoints import write_file
from micro_transformer.wording import _, plural

FIGURES = "figures"


@dataclass
class Report:
    """What was written: text for the terminal, paths of the files, gaps in the sweep."""

    text: str
    files: list[Path]
    gaps: list[str]


def write_report(
    folder: Path, out: Path | None = None, mix: bool = False, figures: bool = True
) -> Report:
    """Writes report.html, report.md, runs.csv and figures/ to `out` (default: the folder).
    ValueError if there is no record."""
    loaded = load_records(folder)
    if not loaded.records:
        raise ValueError(
            _(
                "{folder}: holds no record ({skipped} damaged or foreign files); name a folder "
                "that a sweep has written, such as multirun/demo",
                folder=folder,
                skipped=len(loaded.skipped),
            )
        )
    boards = collect(loaded.records, mix)
    gaps = [gap for board in boards for gap in board.gaps()]
    if loaded.skipped:
        path, why = loaded.skipped[0]
        gaps.append(
            _(
                "{value} skipped, first: {path}: {why}",
                value=plural(len(loaded.skipped), "{n} file", "{n} files"),
                path=path,
                why=why,
            )
        )
    studies, out = [study(board) for board in boards], out or folder
    drawn = [d for i, found in enumerate(studies) for d in draw(found, i)] if figures else []
    both, title = across(boards), folder.resolve().name
    command = shlex.join(["python", "-m", "micro_transformer.report", str(folder)])
    command += " --mixed" if mix else ""
    files = [_write(out / "report.html", page(title, studies, drawn, gaps, both, command))]
    files.append(_write(out / "report.md", _markdown(title, studies, drawn, gaps, both)))
    files.append(_write(out / "runs.csv", tables.runs_csv(boards)))
    _save(drawn, out / FIGURES)
    return Report(_terminal(studies), files, gaps)


def _save(drawn: list[Drawn], folder: Path) -> None:
    for each in drawn:
        for name, data in each.files.items():
            write_file(folder / name, data)


def _terminal(studies: list[Study]) -> str:
    parts = []
    for found in studies:
        parts.append(tables.as_text(brief(found.board)))
        said = [*found.headlines[:5], *found.facts[:2]]
        parts.append("\n".join(f"- {tables.printable(claim.text)}" for claim in said))
    return "\n\n".join(part for part in parts if part)


def _markdown(
    title: str, studies: list[Study], drawn: list[Drawn], gaps: list[str], both: Table | None
) -> str:
    parts = [f"# {tables.markdown(title)}", ""]
    for found in studies:
        parts += [f"## {tables.markdown(found.board.title)}", ""]
        parts += _bullets([claim.text for claim in found.headlines[:40]])
        parts += _bullets([claim.text for claim in found.facts])
        parts += [tables.as_markdown(table) for table in found.tables]
    if both is not None:
        parts.append(tables.as_markdown(both))
    parts += [f"![{tables.markdown(d.caption)}]({FIGURES}/{d.preferred})\n" for d in drawn]
    if gaps:
        parts += ["## Gaps", "", *_bullets(gaps)]
    return "\n".join(parts)


def _bullets(texts: list[str]) -> list[str]:
    return [*(f"- {tables.markdown(text)}" for text in texts), ""] if texts else []


def _write(path: Path, text: str) -> Path:
    write_file(path, text.encode())
    return path
