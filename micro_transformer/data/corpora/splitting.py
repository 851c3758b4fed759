"""Splits without leaks: whole groups, blocks with a gap, connected components. All are functions
of the data."""

import random
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from itertools import accumulate, pairwise

import numpy as np

from micro_transformer.data.corpora.base import Document
from micro_transformer.data.text import Report

HELD_OUT = ("val", "test")
FEWEST_GROUPS = (
    6  # fewer than this cannot give a validation and a test group and still leave most to train on
)


def grouped(documents: Sequence[Document], share: float) -> dict[str, list[Document]]:
    """Whole groups in train, val and test, of about `share` of the text in val and in test each.

    Groups are ranked by length and cut into strata; each stratum gives val and test the group
    nearest in size to their share. So every split has short and long books, and no book is in
    two.
    """
    sizes: dict[str, int] = defaultdict(int)
    for document in documents:
        sizes[document.group] += len(document.text)
    ranked = sorted(sizes, key=lambda group: (sizes[group], group))
    num_strata = max(1, round(len(ranked) * share))
    wanted = share * sum(sizes.values()) / num_strata
    place = dict.fromkeys(ranked, "train")
    for stratum in np.array_split(np.array(ranked), num_strata):
        nearest = sorted(stratum.tolist(), key=lambda group: (abs(sizes[group] - wanted), group))
        place.update(zip(nearest, HELD_OUT, strict=False))
    return {
        split: [d for d in documents if place[d.group] == split] for split in ("train", *HELD_OUT)
    }


def blocks(document: Document, parts: int, gap: int, report: Report) -> list[Document]:
    """A document as consecutive blocks of lines, each a group; `gap` characters before a border
    are dropped."""
    lines = document.text.splitlines(keepends=True)
    ends = list(accumulate(map(len, lines)))
    size = -(-ends[-1] // parts)
    found = []
    for part in range(parts):
        low, high = part * size, (part + 1) * size
        last = part == parts - 1
        inside = [
            line
            for line, end in zip(lines, ends, strict=True)
            if low < end <= (high if last else high - gap)
        ]
        found.append(Document(f"{document.group}/{part + 1:02}", "".join(inside)))
    dropped = ends[-1] - sum(len(block.text) for block in found)
    report.note("characters dropped between blocks", 1, dropped)
    return found


def components(edges: Iterable[tuple[Hashable, Hashable]]) -> list[int]:
    """Number of the connected component of each edge, counted in order of first appearance."""
    parent: dict[Hashable, Hashable] = {}

    def root(node: Hashable) -> Hashable:
        parent.setdefault(node, node)
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    kept = list(edges)
    for a, b in kept:
        parent[root(a)] = root(b)
    numbers: dict[Hashable, int] = {}
    return [numbers.setdefault(root(a), len(numbers)) for a, _ in kept]


def shuffled(count: int, seed: int) -> list[int]:
    """0 .. count - 1 in an order that follows from the seed."""
    order = list(range(count))
    random.Random(seed).shuffle(order)
    return order


def cut(values: list[int], sizes: Sequence[int]) -> list[list[int]]:
    """Consecutive pieces of these sizes, and the rest."""
    return [values[a:b] for a, b in pairwise([0, *accumulate(sizes), len(values)])]
