"""Text to token ids and back. Ids below FIRST are special and stand for no text; 0 is always
padding.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from tokenizers import Tokenizer as Library
from tokenizers import decoders, models, pre_tokenizers, trainers

from micro_transformer.wording import _

PAD, BOS, EOS, UNK, MASK = range(5)
SPECIALS = ("<pad>", "<bos>", "<eos>", "<unk>", "<mask>")
FIRST = len(SPECIALS)  # the first id that stands for text
UNKNOWN = "\ufffd"  # what UNK reads as
SIZES = {"bpe_1k": 1024, "bpe_4k": 4096, "bpe_8k": 8192}  # ids, specials and bytes included


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

    def num_bytes(self, ids: np.ndarray) -> int:
        """Bytes of UTF-8 that ids stand for, cut characters included; specials have none."""

    def to_dict(self) -> dict[str, Any]:
        """Everything `load` needs, as JSON."""


@dataclass(frozen=True)
class CharTokenizer:
    """One id a character of the alphabet; others become UNK."""

    alphabet: str
    kind = "char"

    @classmethod
    def train(cls, texts: Iterable[str]) -> "CharTokenizer":
        """The tokenizer of all characters that occur in texts."""
        return cls("".join(sorted(set().union(*texts) - {UNKNOWN})))

    @property
    def vocab_size(self) -> int:
        return FIRST + len(self.alphabet)

    @cached_property
    def _codes(self) -> np.ndarray:
        codes = _code_points(self.alphabet)
        if len(codes) and not (np.diff(codes) > 0).all():
            raise ValueError(
                _("the alphabet of a char tokenizer must be sorted and without repeats")
            )
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

    def num_bytes(self, ids: np.ndarray) -> int:
        sizes = [0] * FIRST + [len(c.encode("utf-8", "surrogatepass")) for c in self.alphabet]
        return int(np.array(sizes)[ids].sum())

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

    def num_bytes(self, ids: np.ndarray) -> int:
        return int((ids >= FIRST).sum())

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind}


@dataclass(frozen=True)
class BPETokenizer:
    """Byte-level byte-pair encoding (Sennrich et al., 2016; Radford et al., 2019): no text is
    unknown.

    Our specials stay outside the library, which would read a `<pad>` in the text as padding.
    """

    merges: tuple[tuple[str, str], ...]
    kind = "bpe"

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int) -> "BPETokenizer":
        """At most vocab_size ids, specials and the 256 bytes included; fewer if the text has no
        more pairs.
        """
        library = _byte_level(models.BPE())
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size - FIRST,
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        library.train_from_iterator(texts, trainer)
        merges = json.loads(library.to_str())["model"]["merges"]
        return cls(tuple((left, right) for left, right in merges))

    @cached_property
    def _library(self) -> Library:
        symbols = sorted(pre_tokenizers.ByteLevel.alphabet()) + [a + b for a, b in self.merges]
        vocab = {symbol: i for i, symbol in enumerate(dict.fromkeys(symbols))}
        return _byte_level(models.BPE(vocab=vocab, merges=list(self.merges)))

    @property
    def vocab_size(self) -> int:
        return FIRST + self._library.get_vocab_size()

    def encode(self, text: str) -> np.ndarray:
        return np.array(self._library.encode(text).ids, np.int64) + FIRST

    def decode(self, ids: Iterable[int]) -> str:
        return self._library.decode(
            [i - FIRST for i in ids if i >= FIRST], skip_special_tokens=False
        )

    def num_bytes(self, ids: np.ndarray) -> int:
        sizes = np.zeros(self.vocab_size, np.int64)
        for symbol, i in self._library.get_vocab().items():
            sizes[FIRST + i] = len(symbol)  # a character of it is a byte
        return int(sizes[ids].sum())

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, "merges": [list(pair) for pair in self.merges]}


def load(saved: dict[str, Any]) -> Tokenizer:
    """The tokenizer that `to_dict` described; ValueError for a kind that this version does not
    know.
    """
    match saved:
        case {"kind": "char", "alphabet": str(alphabet)}:
            return CharTokenizer(alphabet)
        case {"kind": "byte"}:
            return ByteTokenizer()
        case {"kind": "bpe", "merges": list(merges)}:
            return BPETokenizer(tuple((left, right) for left, right in merges))
    raise ValueError(
        _(
            "tokenizer.kind={kind}: must be char, byte or bpe; prepare the data again",
            kind=saved.get("kind"),
        )
    )


def train(kind: str, texts: Iterable[str]) -> Tokenizer:
    """A tokenizer made from texts, which are those of the train split only; kind is char, byte or a
    key of SIZES.
    """
    match kind:
        case "char":
            return CharTokenizer.train(texts)
        case "byte":
            return ByteTokenizer()
    return BPETokenizer.train(texts, SIZES[kind])


def _byte_level(model: models.BPE) -> Library:
    library = Library(model)
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = decoders.ByteLevel()
    return library


def _code_points(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
