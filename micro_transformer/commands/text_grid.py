"""The grid of the generate command: every prompt by every combination of choices."""

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from micro_transformer import disk
from micro_transformer.progress import Display, shown
from micro_transformer.wording import _, printable


class Cell(NamedTuple):
    """A combination of choices, by the words that set it."""

    name: str
    config: dict[str, Any]


def write_grid(
    texts: Callable[[dict[str, Any], list[str]], list[str]],
    prompts: list[str],
    cells: list[Cell],
    folder: Path,
) -> None:
    """grid.csv has a row per prompt and combination; grid.md is the same to read."""
    folder.mkdir(parents=True, exist_ok=True)
    disk.need_writable(folder)
    display, rows = Display(_("combination"), len(cells)), []
    with shown(display):
        for name, config in cells:
            written = texts(config, prompts)
            rows += [(prompt, name, text) for prompt, text in zip(prompts, written, strict=True)]
            display.advance()
    table, page = io.StringIO(), []
    csv.writer(table).writerows([("prompt", "choices", "text"), *rows])
    for prompt in dict.fromkeys(prompts):
        page.append(f"## {printable(prompt)}")
        page += [f"**{name}**\n\n{printable(text)}" for of, name, text in rows if of == prompt]
    disk.write_file(folder / "grid.csv", table.getvalue().encode())
    disk.write_file(folder / "grid.md", ("\n\n".join(page) + "\n").encode())
    print(_("written: {table}, {page}", table=folder / "grid.csv", page=folder / "grid.md"))
