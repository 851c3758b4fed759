"""What a corpus is: knobs, origins in order of trust, and a split into rows."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from micro_transformer.data.sources import Source
from micro_transformer.data.text import Report, sentences
from micro_transformer.data.tokenizer import Tokenizer


@dataclass
class Rows:
    """One split: columns of equal length."""

    texts: dict[str, list[str]]  # column -> one text a row, to be tokenized
    numbers: dict[str, list[int]] = field(default_factory=dict)  # column -> one number a row
    entries: dict[str, list[Any]] = field(
        default_factory=dict
    )  # column -> anything JSON, one a row
    groups: list[str] = field(default_factory=list)  # the books, plays, ... of this split

    def __len__(self) -> int:
        return len(next(iter(self.texts.values())))

    def keep(self, wanted: list[bool]) -> None:
        """Only the rows that are wanted are left."""
        for columns in (self.texts, self.numbers, self.entries):
            for name, values in columns.items():
                # type: ignore[index]
                columns[name] = [v for v, keep in zip(values, wanted, strict=True) if keep]

    def all_text(self) -> Iterator[str]:
        """Every text of every column."""
        for texts in self.texts.values():
            yield from texts


@dataclass(frozen=True)
class Document:
    """A piece of running text and the group that must not be torn apart between splits."""

    group: str
    text: str


@dataclass(frozen=True)
class Origin:
    """One way to get a corpus: files that are all needed, and the function that reads them."""

    sources: tuple[Source, ...]
    read: Callable[[list[Path], Report], Any]
    licence: str
    about: str  # what the text is, said honestly
    biases: str  # what it over- and under-represents

    @property
    def tier(self) -> str:
        """MT_DATA, url, mirror or grammar."""
        return self.sources[0].tier


@dataclass(frozen=True)
class Corpus:
    """Base of all corpora: fields are the knobs that change the prepared data."""

    name: ClassVar[str]
    row: ClassVar[str]  # what one row is
    max_tokens: ClassVar[int | None] = None  # longer rows are dropped: sentence tasks only
    tokenizer: str

    @property
    def knobs(self) -> dict[str, Any]:
        """The knobs in order; part of the folder's name."""
        return asdict(self)

    def origins(self) -> list[Origin]:
        """Where the text may come from, best first."""
        raise NotImplementedError

    def rows(self, read: Any, report: Report) -> dict[str, Rows]:
        """Split name -> rows, from what the origin's `read` returned."""
        raise NotImplementedError

    def sentences(self, text: str) -> list[str]:
        """The sentences of a row's text by their letters and digits: what is kept apart."""
        return sentences(text)

    def may_recur(self, tier: str) -> str:
        """Why sentences of this variant may stand in two splits, "" where none does; they are
        counted then, not dropped.
        """
        return ""

    def facts(self, splits: dict[str, Rows], tokens: Tokenizer) -> dict[str, Any]:
        """Figures worth keeping beside the data."""
        return {}


def pieces(text: str, end: str) -> list[str]:
    """A text cut after every `end`; joined, the pieces are the text again."""
    *whole, rest = text.split(end)
    return [piece + end for piece in whole] + ([rest] if rest else [])
