"""Text to token ids and back. Ids below FIRST are special and stand for no text; 0 is always
padding.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np

PAD, BOS, EOS, UNK, MASK = range(5)
SPECIALS = ("<pad>", "<bos>", "<eos>", "<unk>", "<mask>")
FIRST = len(SPECIALS)  # the first id that stands for text
UNKNOWN = "\ufffd"  # what UNK reads as


class Tokenizer(Protocol):
    """decode(encode(text)) == text for every text that the tokenizer covers."""

    kind: str

    @property
    def vocab_size(self) -> int:
        """Ids are 0 .. vocab_size - 1, specials included."""

    def encode(self, text: str) -> np.ndarray:
        """Text -> ids (N,) int64; no special is ever made except UNK."""

    def decode(self, ids: Iterable[int]) -> str:
        """Ids -> text; specials leave nothing, except UNK."""

    def to_dict(self) -> dict[str, Any]:
        """Everything `load` needs, as JSON."""


@dataclass(frozen=True)
class CharTokenizer:
    """One id a character of the alphabet; others become UNK."""

    alphabet: str
    kind = "char"

    @classmethod
    def train(cls, text: str) -> "CharTokenizer":
        """The tokenizer of all characters that occur in a text."""
        return cls("".join(sorted(set(text) - {UNKNOWN})))

    @property
    def vocab_size(self) -> int:
        return FIRST + len(self.alphabet)

    @cached_property
    def _codes(self) -> np.ndarray:
        codes = _code_points(self.alphabet)
        if len(codes) and not (np.diff(codes) > 0).all():
            raise ValueError("the alphabet of a char tokenizer must be sorted and without repeats")
        return codes

    def encode(self, text: str) -> np.ndarray:
        points = _code_points(text)
        if not len(self._codes):
            return np.full(len(points), UNK, np.int64)
        rank = np.searchsorted(self._codes, points).clip(max=len(self._codes) - 1)
        return np.where(self._codes[rank] == points, rank + FIRST, UNK)

    def decode(self, ids: Iterable[int]) -> str:
        symbols = [""] * FIRST + list(self.alphabet)
        symbols[UNK] = UNKNOWN
        return "".join(symbols[i] for i in ids)

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, "alphabet": self.alphabet}


@dataclass(frozen=True)
class ByteTokenizer:
    """One id a byte of UTF-8: no text is unknown. A cut character reads as U+FFFD."""

    kind = "byte"

    @property
    def vocab_size(self) -> int:
        return FIRST + 256

    def encode(self, text: str) -> np.ndarray:
        return np.frombuffer(text.encode("utf-8"), np.uint8).astype(np.int64) + FIRST

    def decode(self, ids: Iterable[int]) -> str:
        return bytes(i - FIRST for i in ids if i >= FIRST).decode("utf-8", errors="replace")

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind}


def load(saved: dict[str, Any]) -> Tokenizer:
    """The tokenizer that `to_dict` described; ValueError for a kind that this version does not
    know.
    """
    match saved:
        case {"kind": "char", "alphabet": str(alphabet)}:
            return CharTokenizer(alphabet)
        case {"kind": "byte"}:
            return ByteTokenizer()
    raise ValueError(
        f"tokenizer.kind={saved.get('kind')}: must be char or byte; prepare the data again"
    )


def train(kind: str, text: str) -> Tokenizer:
    """A tokenizer of a kind, made from the train split only."""
    return CharTokenizer.train(text) if kind == "char" else ByteTokenizer()


def _code_points(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
