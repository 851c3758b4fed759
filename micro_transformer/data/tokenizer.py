"""Tokenizers: text to token ids and back. Ids below FIRST are special tokens without text; 0 is
padding."""

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
FIRST = len(SPECIALS)  # the first id of text
UNKNOWN = "\ufffd"  # what UNK decodes to
SIZES = {"bpe_1k": 1024, "bpe_4k": 4096, "bpe_8k": 8192}  # ids, special tokens and bytes included


class Tokenizer(Protocol):
    """Protocol: decode(encode(text)) == text for every text that the tokenizer covers."""

    kind: str

    @property
    def vocab_size(self) -> int:
        """Ids are 0 .. vocab_size - 1, specials included."""

    def encode(self, text: str) -> np.ndarray:
        """Text -> ids (N,) int64; UNK is the only special token among them."""

    def decode(self, ids: Iterable[int]) -> str:
        """Ids -> text; special tokens give no text, except UNK."""

    def num_bytes(self, ids: np.ndarray) -> int:
        """Number of UTF-8 bytes of the ids, incomplete characters included; special tokens have
        none."""

    def to_dict(self) -> dict[str, Any]:
        """All that `load` needs, as JSON."""


@dataclass(frozen=True)
class CharTokenizer:
    """One id per character of the alphabet; other characters become UNK."""

    alphabet: str
    kind = "char"

    @classmethod
    def train(cls, texts: Iterable[str]) -> "CharTokenizer":
        """The tokenizer of all characters in the texts."""
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
    """One id per byte of UTF-8; no text is unknown. An incomplete character decodes to U+FFFD."""

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
    """Byte-level byte-pair encoding (Sennrich et al., 2016; Radford et al., 2019); no text is
    unknown.

    The library does not know our special tokens: it would read a `<pad>` in the text as padding.
    """

    merges: tuple[tuple[str, str], ...]
    kind = "bpe"

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int) -> "BPETokenizer":
        """A tokenizer of at most vocab_size ids, special tokens and the 256 bytes included; of
        fewer if the text has no more pairs."""
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
            sizes[FIRST + i] = len(symbol)  # one byte per character of it
        return int(sizes[ids].sum())

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, "merges": [list(pair) for pair in self.merges]}


def load(saved: dict[str, Any]) -> Tokenizer:
    """The tokenizer described by `to_dict`; raises ValueError for a kind unknown to this
    version."""
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
    """A tokenizer trained on the texts, which are those of the train split; kind is char, byte
    or a key of SIZES."""
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
