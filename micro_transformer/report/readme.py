"""python -m micro_transformer.report.readme: the READMEs' result tables, made from records.

A README holds the table between `<!-- results:NAME -->` and `<!-- /results -->`, where NAME is a
folder of results/. Nobody types a number.
"""

import re
import sys
from pathlib import Path

from micro_transformer import tables
from micro_transformer.results import load_records
from micro_transformer.rows import collect
from micro_transformer.store import write_file

ROOT = Path(__file__).resolve().parents[2]
READMES = ("README.md", "README.es.md")
BLOCK = re.compile(r"(<!-- results:([\w-]+) -->\n).*?(<!-- /results -->)", re.DOTALL)


def refreshed(text: str, results: Path) -> str:
    """The text with every table between its marks made anew from results/NAME."""
    return BLOCK.sub(lambda m: f"{m[1]}\n{table(results / m[2])}\n\n{m[3]}", text)


def table(folder: Path) -> str:
    """The brief's table of a sweep, as Markdown."""
    boards = collect(load_records(folder).records)
    return "\n\n".join(tables.as_markdown(tables.brief(board)) for board in boards)


def main() -> int:
    """Exit code 0; says which files changed."""
    for name in READMES:
        path = ROOT / name
        before = path.read_text(encoding="utf-8")
        after = refreshed(before, ROOT / "results")
        if after != before:
            write_file(path, after.encode())
        print(f"{name}: {'made anew' if after != before else 'up to date'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
