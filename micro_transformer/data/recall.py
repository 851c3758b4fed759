"""Multi-query associative recall (Arora et al., 2023): key-value pairs that are asked for later.

k3 v7 k1 v2 ... . k1 . . k3 . .      At the second occurrence of a key the answer is its value;
         2       7                   other tokens ask nothing. All follows from a generator.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from micro_transformer.data.tokenizer import FIRST, PAD, CharTokenizer
from micro_transformer.wording import _

# Characters of the ids: 26 fillers a to z, then keys, then values; all are printable.
FILLERS, KEY, VALUE = "abcdefghijklmnopqrstuvwxyz", 0x4E00, 0xAC00
SHORTEST = 4  # tokens of a sequence: a pair, its query, one filler


class Asked(NamedTuple):
    """Sequences and their answers, (B, T) int64 each; the answer is PAD at tokens that ask
    nothing."""

    ids: Tensor
    targets: Tensor

    def to(self, device: torch.device | str) -> "Asked":
        """The same on another device."""
        return Asked(self.ids.to(device), self.targets.to(device))

    def answers(self) -> Tensor:
        """The answers in order, (N,)."""
        return self.targets[self.targets != PAD]


@dataclass(frozen=True)
class Symbols:
    """Disjoint ids of fillers, `num` keys and `num` values; a sequence has at most `pairs`
    pairs."""

    pairs: int
    num: int

    @property
    def tokenizer(self) -> CharTokenizer:
        """Tokenizer of the ids: Latin letters are fillers, Han characters keys, Hangul syllables
        values."""
        keys, values = (map(chr, range(first, first + self.num)) for first in (KEY, VALUE))
        return CharTokenizer(FILLERS + "".join(keys) + "".join(values))

    @property
    def fillers(self) -> range:
        return range(FIRST, FIRST + len(FILLERS))

    @property
    def keys(self) -> range:
        return range(self.fillers.stop, self.fillers.stop + self.num)

    @property
    def values(self) -> range:
        return range(self.keys.stop, self.keys.stop + self.num)

    def pairs_in(self, length: int) -> int:
        """Pairs of a training sequence: a quarter of its length, at most `pairs`."""
        return min(self.pairs, length // SHORTEST)


@dataclass(frozen=True)
class Drawn:
    """Stand-in for prepared data of a task that generates its own: fixed sequences as text."""

    tokenizer: CharTokenizer
    fixed: Callable[[str], Asked]  # split -> its sequences

    @property
    def record(self) -> dict[str, Any]:
        """Source of the data, hash of the validation sequences, and their text."""
        scored = hashlib.sha256(self.tokens("val").tobytes()).hexdigest()
        return {"tier": "drawn", "sha256": scored, "rows": len(self.fixed("val").ids)}

    def tokens(self, split: str) -> np.ndarray:
        """Ids of the fixed sequences, one after the other, (N,)."""
        return self.fixed(split).ids.flatten().numpy()


def sequences(draw: np.random.Generator, symbols: Symbols, num: int, length: int) -> Asked:
    """(num, length) sequences: first the pairs, then a query per key, with fillers in between.

    The distance g of a query from the pairs follows a power law with weight 1/g, the limit of
    that of Zoology for a small exponent. Raises ValueError if `length` has no room for a pair
    and its query.
    """
    pairs = symbols.pairs_in(length)
    if not pairs:
        raise ValueError(
            _(
                "{length} tokens have no room for a pair and its query; give at least {shortest}",
                length=length,
                shortest=SHORTEST,
            )
        )
    gaps = np.arange(1, length - 2 * pairs + 1)
    order = draw.gumbel(size=(num, len(gaps))) - np.log(gaps)  # the largest: drawn by weight
    places = np.argpartition(-order, pairs - 1, axis=1)[:, :pairs]
    which = draw.permuted(np.tile(np.arange(pairs), (num, 1)), axis=1)
    return _ask(draw, symbols, pairs, length, which, 2 * pairs + places)


def at_distance(
    draw: np.random.Generator, symbols: Symbols, num: int, distance: int, queries: int
) -> Asked:
    """(num, distance + 2 pairs - 1) sequences: `queries` of the keys are asked exactly
    `distance` tokens after their pair.

    A query must come after all pairs, so a small distance may have fewer queries.
    """
    pairs = symbols.pairs
    length = distance + 2 * pairs - 1
    possible = np.arange(max(0, -(-(2 * pairs - distance) // 2)), pairs)
    shuffled = draw.permuted(np.tile(possible, (num, 1)), axis=1)[:, :queries]
    return _ask(draw, symbols, pairs, length, shuffled, 2 * shuffled + distance)


def _ask(
    draw: np.random.Generator,
    symbols: Symbols,
    pairs: int,
    length: int,
    which: np.ndarray,
    places: np.ndarray,
) -> Asked:
    """Sequences of random pairs followed by fillers, in which key `which` (B, Q) is asked at
    index `places` (B, Q).

    Keys are distinct within a sequence, and so are values; both are uniformly distributed.
    """
    num, row = len(which), np.arange(len(which))[:, None]
    keys, values = (_distinct(draw, some, num, pairs) for some in (symbols.keys, symbols.values))
    ids = draw.integers(symbols.fillers.start, symbols.fillers.stop, (num, length))
    ids[:, : 2 * pairs : 2], ids[:, 1 : 2 * pairs : 2] = keys, values
    targets = np.full((num, length), PAD)
    ids[row, places], targets[row, places] = keys[row, which], values[row, which]
    return Asked(torch.from_numpy(ids), torch.from_numpy(targets))


def _distinct(draw: np.random.Generator, ids: range, num: int, count: int) -> np.ndarray:
    """(num, count) ids, distinct within each row, uniformly distributed."""
    order = draw.random((num, len(ids))).argpartition(count - 1, axis=1)[:, :count]
    return ids.start + draw.permuted(order, axis=1)
