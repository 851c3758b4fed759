"""python -m micro_transformer.report FOLDER: tables, figures and an HTML page from its records."""

import sys
from pathlib import Path

from micro_transformer import disk
from micro_transformer.console import Parser
from micro_transformer.report.write import write_report
from micro_transformer.wording import printable


@disk.one_line
def main(words: list[str] | None = None) -> int:
    """Exit code: 0 done, 1 gaps under --strict, 3 nothing to report or not writable."""
    parser = Parser(
        prog="python -m micro_transformer.report",
        description="Print and write the report of every record below a folder.",
    )
    parser.add_argument("folder", type=Path, help="such as multirun/demo")
    parser.add_argument("--out", type=Path, help="where to write; default: the folder itself")
    parser.add_argument(
        "--mixed",
        action="store_true",
        help="pool and compare rows although code, data or library versions differ",
    )
    parser.add_argument("--strict", action="store_true", help="exit 1 when anything is missing")
    parser.add_argument("--no-figures", action="store_true", help="tables and words only: faster")
    args = parser.parse_args(words)
    try:
        report = write_report(args.folder, args.out, args.mixed, not args.no_figures)
    except ValueError as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
        return disk.BAD_IO
    print(report.text, end="\n\n")
    for gap in report.gaps:
        print(f"gap: {printable(gap)}")
    print(f"written: {', '.join(map(str, report.files))}")
    return 1 if args.strict and report.gaps else 0
