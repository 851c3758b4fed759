"""python -m micro_transformer.report.readme: what the documents show of results/, from records.

Between `<!-- KIND:NAME WORDS -->` and `<!-- /KIND -->` is what the records of results/NAME say:
`results` their table, `findings` their conclusions and what was measured by place, `intervals`
scores of sentences against the best, `trained` the parameters that were trained, `budgets` losses
at equal tokens, FLOPs and time, `experts` what the experts do, `figures` the pictures named by the
words, in docs/figures. Nobody types a number. The table of parts is brought up to date too.
"""

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from micro_transformer.config import schema
from micro_transformer.console import command
from micro_transformer.hashing import digest
from micro_transformer.records import tables
from micro_transformer.records.record_files import load_records
from micro_transformer.records.rows import Board, collect
from micro_transformer.report.equal_budgets import equal_budgets
from micro_transformer.report.experts import experts_table, routed
from micro_transformer.report.figures import draw
from micro_transformer.report.item_intervals import intervals
from micro_transformer.report.study import study
from micro_transformer.report.summary_table import brief
from micro_transformer.report.tables_by_length import tables_by_place
from micro_transformer.report.trained_parameters import trained_parameters
from micro_transformer.store.checkpoints import write_file
from micro_transformer.wording import _

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = ("README.md", "README.es.md", "docs/findings.md")
FIGURES = Path("docs/figures")
PARTS = re.compile(r"^(\| `(\w+)` \| )([\w ]+)( \| [^|]+ \|)$", re.MULTILINE)
BLOCK = re.compile(r"(<!-- (\w+):([\w-]+)((?: [\w-]+)*) -->\n).*?(<!-- /\2 -->)", re.DOTALL)


def refreshed(text: str, results: Path) -> str:
    """The text with everything between marks made anew. KeyError: an unknown kind."""

    def anew(mark: re.Match[str]) -> str:
        return f"{mark[1]}\n{KINDS[mark[2]](results / mark[3], mark[4].split())}\n\n{mark[5]}"

    return BLOCK.sub(anew, text)


def with_every_choice(text: str) -> str:
    """The text with each choice in its table of parts: new ones last, lost ones out."""

    def listed(row: re.Match[str]) -> str:
        known, named = schema.choices_of(row[2]), row[3].split()
        kept = [choice for choice in named if choice in known]
        return row[1] + " ".join([*kept, *(c for c in known if c not in named)]) + row[4]

    return PARTS.sub(listed, text)


def pictures(text: str, results: Path) -> Iterator[tuple[str, bytes]]:
    """(file name, SVG) of each figure that the text shows. ValueError: there is no such figure."""
    for _open, kind, name, words, _close in BLOCK.findall(text):
        if kind == "figures":
            found = {
                d.name: d for i, b in enumerate(_boards(results / name)) for d in draw(study(b), i)
            }
            for word in words.split():
                if word not in found:
                    raise ValueError(
                        _("results/{name} has no figure {word}; has {known}",
                          name=name, word=word, known=", ".join(found))
                    )  # fmt: skip
                yield _picture(results / name, word), found[word].svg


def _table(folder: Path, words: list[str]) -> str:
    """The brief's table of a sweep, as Markdown."""
    return "\n\n".join(tables.as_markdown(brief(board)) for board in _boards(folder))


def _findings(folder: Path, words: list[str]) -> str:
    parts = []
    for board in _boards(folder):
        found = study(board)
        said = [claim.text for claim in (*found.headlines, *found.facts)]
        parts.append("\n".join(f"- {tables.markdown(text)}" for text in said))
        parts += [tables.as_markdown(table).strip() for table in tables_by_place(board)]
    return "\n\n".join(parts)


def _intervals(folder: Path, words: list[str]) -> str:
    """Scores of each configuration against the best, over seeds and over sentences."""
    found = (intervals(board) for board in _boards(folder))
    return "\n\n".join(tables.as_markdown(table).strip() for table in found if table)


def _trained(folder: Path, words: list[str]) -> str:
    """What each configuration trains of its net."""
    found = (trained_parameters(board) for board in _boards(folder))
    return "\n\n".join(tables.as_markdown(table).strip() for table in found if table.rows)


def _budgets(folder: Path, words: list[str]) -> str:
    """Losses at equal tokens, FLOPs and time, and their differences."""
    found = (table for board in _boards(folder) for table in equal_budgets(board))
    return "\n\n".join(tables.as_markdown(table).strip() for table in found)


def _experts(folder: Path, words: list[str]) -> str:
    """Balance of the experts, FLOPs per token and agreement over seeds."""
    found = (experts_table(board, routed(board)) for board in _boards(folder))
    return "\n\n".join(tables.as_markdown(table).strip() for table in found if table.rows)


def _figures(folder: Path, words: list[str]) -> str:
    """Links; they change with the records, so that a picture of other records is noticed."""
    made = digest(sorted(path.read_text() for path in folder.rglob("record.json")))[:8]
    shown = [f"![{word.replace('_', ' ')}](figures/{_picture(folder, word)})" for word in words]
    return "\n\n".join([*shown, f"From the records {made}."])


KINDS: dict[str, Callable[[Path, list[str]], str]] = {
    "results": _table,
    "findings": _findings,
    "intervals": _intervals,
    "trained": _trained,
    "budgets": _budgets,
    "experts": _experts,
    "figures": _figures,
}


def _boards(folder: Path) -> list[Board]:
    return collect(load_records(folder).records)


def _picture(folder: Path, word: str) -> str:
    return f"{folder.name}-{word}.svg"


def main() -> int:
    """Exit code 0, or 3 where a mark asks for what is not there; says which files changed."""
    results = ROOT / "results"
    for name in DOCUMENTS:
        path = ROOT / name
        before = path.read_text(encoding="utf-8")
        try:
            after, drawn = refreshed(before, results), dict(pictures(before, results))
            after = with_every_choice(after)
        except (KeyError, ValueError) as error:
            print(_("error: {name}: {error}", name=name, error=error), file=sys.stderr)
            return 3
        for file, svg in drawn.items():
            write_file(ROOT / FIGURES / file, svg)
        if after != before:
            write_file(path, after.encode())
        same = after == before
        print(_("{name}: up to date", name=name) if same else _("{name}: updated", name=name))
    return 0


if __name__ == "__main__":
    command(main)
