"""Splits keep groups whole, blocks apart and linked pairs together."""

from itertools import combinations

from micro_transformer.data.corpora.base import Document
from micro_transformer.data.corpora.splitting import blocks, components, grouped
from micro_transformer.data.text import Report


def test_grouped_splits_hold_out_whole_groups_of_all_lengths():
    documents = [Document(f"g{i}", "x" * (100 + 10 * i)) for i in range(40)] * 2
    splits = grouped(documents, 0.1)
    held = {
        s: [int(d.group[1:]) for d in splits[s][: len(splits[s]) // 2]] for s in ("val", "test")
    }
    for ranks in held.values():
        assert len(ranks) == 4
        assert [sum(low <= r < low + 10 for r in ranks) for low in (0, 10, 20, 30)] == [1] * 4
    assert sorted(d.text for s in splits.values() for d in s) == sorted(d.text for d in documents)


def test_blocks_leave_a_gap():
    lines = "".join(f"line {i:04}\n" for i in range(1000))
    report = Report()
    found = blocks(Document("book", lines), 5, 100, report)
    assert [b.group for b in found] == [f"book/0{i}" for i in range(1, 6)]
    numbers = [[int(line[5:]) for line in b.text.splitlines()] for b in found]
    assert all(b[0] - a[-1] > 9 for a, b in zip(numbers, numbers[1:], strict=False))
    kept = sum(len(b.text) for b in found)
    assert report.counts["characters dropped between blocks"] == len(lines) - kept < 500


def test_components_against_brute_force():
    import random

    rng = random.Random(0)
    for _ in range(30):
        edges = [(("a", rng.randrange(12)), ("b", rng.randrange(12))) for _ in range(12)]
        found = components(edges)
        linked = {i: {i} for i in range(len(edges))}
        for _ in edges:  # spread labels until nothing changes
            for i, j in combinations(range(len(edges)), 2):
                if set(edges[i]) & set(edges[j]):
                    joined = linked[i] | linked[j]
                    for k in joined:
                        linked[k] = joined
        for i, j in combinations(range(len(edges)), 2):
            assert (found[i] == found[j]) == (j in linked[i])
