"""python -m micro_transformer.report FOLDER: tables, figures and an HTML page from its records."""

import sys
from pathlib import Path

from micro_transformer import disk
from micro_transformer.console import Argument, Flag, Parser
from micro_transformer.report.write import write_report
from micro_transformer.wording import _, printable


def parser() -> Parser:
    """The command's grammar."""
    return Parser(
        "report",
        _("Tables, figures and an HTML page of the records in a folder and its subfolders."),
        [Argument("FOLDER", _("of a sweep or of a run, such as multirun/demo"))],
        [
            Flag("--out", _("where to write; default: FOLDER"), "DIR", kind=Path),
            Flag(
                "--mixed",
                _("pool and compare rows although code, data or library versions differ"),
            ),
            Flag("--strict", _("exit code 1 if anything is missing")),
            Flag("--no-figures", _("tables and text only, which is faster")),
        ],
    )


@disk.one_line
def main(words: list[str] | None = None) -> int:
    """Exit code: 0 done, 1 gaps under --strict, 2 wrong usage, 3 nothing to report or not
    writable."""
    asked = parser().parse(words)
    try:
        report = write_report(asked.folder, asked.out, asked.mixed, not asked.no_figures)
    except ValueError as error:
        print(_("error: {fault}", fault=printable(str(error))), file=sys.stderr)
        return disk.BAD_IO
    print(report.text, end="\n\n")
    for gap in report.gaps:
        print(_("gap: {gap}", gap=printable(gap)))
    print(_("written: {files}", files=", ".join(map(str, report.files))))
    return 1 if asked.strict and report.gaps else 0
