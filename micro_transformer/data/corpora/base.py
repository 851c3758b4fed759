"""Base of a corpus: knobs, origins in order of trust, and a split into rows."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from micro_transformer.data.sources import Source
from micro_transformer.data.text import Report, sentences

if TYPE_CHECKING:
    from micro_transformer.data.tokenizer import Tokenizer


@dataclass
class Rows:
    """A split: columns of equal length."""

    texts: dict[str, list[str]]  # column -> one text per row, to be tokenized
    numbers: dict[str, list[int]] = field(default_factory=dict)  # column -> one number per row
    entries: dict[str, list[Any]] = field(default_factory=dict)  # column -> one JSON value per row
    groups: list[str] = field(default_factory=list)  # the books, plays, ... of this split

    def __len__(self) -> int:
        return len(next(iter(self.texts.values())))

    def keep(self, wanted: list[bool]) -> None:
        """Only the wanted rows are left."""
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
    """Running text, and the group that is never divided between splits."""

    group: str
    text: str


@dataclass(frozen=True)
class Origin:
    """One way to get a corpus: files, all of them needed, and the function that reads them."""

    sources: tuple[Source, ...]
    read: Callable[[list[Path], Report], Any]
    licence: str
    about: str  # what the text is
    biases: str  # what it over- and under-represents

    @property
    def tier(self) -> str:
        """MT_DATA, url, mirror or grammar."""
        return self.sources[0].tier


@dataclass(frozen=True)
class Corpus:
    """Base class of corpora; fields are the knobs that change the prepared data."""

    name: ClassVar[str]
    row: ClassVar[str]  # what one row is
    max_tokens: ClassVar[int | None] = None  # longer rows are dropped: sentence tasks only
    tokenized_as: ClassVar[str | None] = None  # corpus with the same tokenizer; None: has its own
    tokenizer: str

    @property
    def knobs(self) -> dict[str, Any]:
        """The knobs in order, as in the folder's name."""
        return asdict(self)

    def origins(self) -> list[Origin]:
        """Origins of the text, best first."""
        raise NotImplementedError

    def rows(self, read: Any, report: Report) -> dict[str, Rows]:
        """Maps split -> rows, made from the result of the origin's `read`."""
        raise NotImplementedError

    def vocabulary_texts(self, read: Any, splits: dict[str, Rows]) -> Iterator[str]:
        """The texts that the tokenizer is trained on. No text of an evaluation is among them."""
        return splits["train"].all_text()

    def sentences(self, text: str) -> list[str]:
        """Keys of the sentences in a row's text, by which splits are kept apart."""
        return sentences(text)

    def may_recur(self, tier: str) -> str:
        """Why sentences of this tier may occur in two splits and are only counted; "" if none
        may, and they are dropped."""
        return ""

    def facts(self, splits: dict[str, Rows], tokens: "Tokenizer") -> dict[str, Any]:
        """Numbers worth storing with the data."""
        return {}


def pieces(text: str, end: str) -> list[str]:
    """The text cut after every `end`; joined, the pieces give the text."""
    *whole, rest = text.split(end)
    return [piece + end for piece in whole] + ([rest] if rest else [])
