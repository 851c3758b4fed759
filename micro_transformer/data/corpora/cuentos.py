"""Spanish short stories, 1880-1928 (Corpus de Cuentos de la Edad de Plata, CLiGS, ed. José Calvo
Tello).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from micro_transformer.data.corpora import micro
from micro_transformer.data.corpora.base import Corpus, Document, Origin, Rows, pieces
from micro_transformer.data.corpora.books import BOOKS
from micro_transformer.data.corpora.spanish import (
    BIBLE,
    BIBLE_BIASES,
    BIBLE_LICENCE,
    cligs,
    gutenberg,
    in_blocks,
    reina_valera,
)
from micro_transformer.data.corpora.splitting import grouped
from micro_transformer.data.sources import Folder, Grammar
from micro_transformer.data.text import Report, distinct, fold, same

# Valle-Inclán reprinted stories in several of his books, some of them rewritten.
REPRINTED = {
    "Valle_CorteAmor-ce0035": "Valle_JardinUmbrio-ce0034",
    "Valle_Femeninas-ce0033": "Valle_JardinUmbrio-ce0034",
}
SHARE = 0.1  # approximate share of the text in validation and in test each
FILES = tuple(Folder(f"spanish_stories/raw/{n}.txt", size, sha256) for n, size, sha256 in BOOKS)
GUTENBERG = (
    gutenberg(55514, "Cuentos de amor"),  # Pardo Bazán
    gutenberg(13507, "Cuentos de Amor de Locura y de Muerte"),  # Quiroga
    # Cuentos clásicos del norte: translations of Poe, and of Irving, Hawthorne and Hale.
    gutenberg(46196, "Cuentos Clásicos del Norte"),
    gutenberg(46496, "Cuentos Clásicos del Norte"),
)
LICENCE = "Texts public domain; edition CC BY 4.0 (cite the corpus)"
BIASES = (
    "Literary Spanish of Spain, 1880-1928, seven authors of whom one is a woman; rural and "
    "upper-class settings, views of women, Roma and religion of the time; Clarín alone is a third."
)


@dataclass(frozen=True)
class Cuentos(Corpus):
    """Spanish short stories; books or authors are never divided between splits."""

    name: ClassVar[str] = "cuentos"
    row: ClassVar[str] = "paragraph"
    text: Literal["raw", "clean"] = "clean"  # clean: NFKC and lower case
    group: Literal["book", "author"] = "book"
    tokenizer: Literal["char", "byte", "bpe_1k", "bpe_4k"] = "char"

    def origins(self) -> list[Origin]:
        books = "18 books of Spanish short stories and short novels"
        web = "Four books of Spanish stories, two of them translations, cut into blocks"
        bible = "NOT STORIES: the Reina-Valera Bible of 1909"
        return [
            Origin(FILES, self.read_books, LICENCE, books, BIASES),
            Origin(GUTENBERG, in_blocks, "Public domain in the USA", web, BIASES),
            Origin((BIBLE,), reina_valera, BIBLE_LICENCE, bible, BIBLE_BIASES),
            Origin((Grammar(),), _synthetic, micro.LICENCE, micro.ABOUT, micro.BIASES),
        ]

    def read_books(self, paths: list[Path], report: Report) -> list[Document]:
        """The books. The group is the author (first word of the file name), or the book together
        with those that reprint its stories."""
        documents = []
        for path in paths:
            book = path.name.split(".")[0]
            group = book.split("_")[0] if self.group == "author" else REPRINTED.get(book, book)
            documents.append(Document(group, cligs(path, report)))
        return documents

    def may_recur(self, tier: str) -> str:
        return micro.stand_in(tier)

    def rows(self, read: list[Document], report: Report) -> dict[str, Rows]:
        """Paragraphs, each once in the corpus: verbatim repetitions are dropped."""
        lines = [(d.group, line) for d in read for line in pieces(d.text, "\n")]
        if self.text == "clean":
            lines = [(group, fold(line)) for group, line in lines]
        kept = distinct(lines, lambda pair: same(pair[1]), report, "paragraph")
        splits = grouped([Document(group, line) for group, line in kept], SHARE)
        return {split: _rows(documents) for split, documents in splits.items()}


def _rows(paragraphs: list[Document]) -> Rows:
    groups = list(dict.fromkeys(p.group for p in paragraphs))
    return Rows({"text": [p.text for p in paragraphs]}, groups=groups)


def _synthetic(paths: list[Path], report: Report) -> list[Document]:
    groups = micro.read_as("es", groups=20, stories=400)
    return [Document(g.group, "".join(micro.one_a_line(g.text))) for g in groups]
