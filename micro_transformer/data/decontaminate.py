"""Finds sentences that occur in two splits, and drops them from one split or counts them.

Two sentences are equal if they have the same letters and digits in the same order.
"""

from collections.abc import Callable, Iterator
from typing import Any

from micro_transformer.data.corpora.base import Rows
from micro_transformer.data.text import Report

Sentences = Callable[[str], list[str]]


def drop_recurring(splits: dict[str, Rows], cut: Sentences, report: Report) -> None:
    """No sentence is in two splits. The last split keeps all its rows; an earlier one loses the
    rows with a sentence of a later split, and the report counts them."""
    later: set[str] = set()
    for name in reversed(splits):
        found = _by_row(splits[name], cut)
        apart = [later.isdisjoint(row) for row in found]
        for number, kept in enumerate(apart, 1):
            if not kept:
                report.note(f"hold a sentence of a later split, dropped from {name}", number)
        splits[name].keep(apart)
        later.update(s for row, kept in zip(found, apart, strict=True) if kept for s in row)


def recurring(splits: dict[str, Rows], cut: Sentences) -> dict[str, dict[str, Any]]:
    """For each split but the first: number of sentences, how many of them are also in another
    split, their share of the characters, and the characters of the longest."""
    found = {name: [s for row in _by_row(rows, cut) for s in row] for name, rows in splits.items()}
    return {name: _shared(found, name) for name in list(splits)[1:]}


def _shared(found: dict[str, list[str]], name: str) -> dict[str, Any]:
    elsewhere = {s for other, texts in found.items() if other != name for s in texts}
    shared = [len(s) for s in found[name] if s in elsewhere]
    return {
        "sentences": len(found[name]),
        "in_another_split": len(shared),
        "share_of_letters": round(sum(shared) / sum(map(len, found[name])), 5),
        "longest_letters": max(shared, default=0),
    }


def _by_row(rows: Rows, cut: Sentences) -> list[list[str]]:
    return [[s for text in texts for s in cut(text)] for texts in _texts(rows)]


def _texts(rows: Rows) -> Iterator[list[str]]:
    """The distinct texts of each row: its columns and its references."""
    references = rows.entries.get("references") or [[]] * len(rows)
    for *texts, more in zip(*rows.texts.values(), references, strict=True):
        yield list(dict.fromkeys([*texts, *more]))
