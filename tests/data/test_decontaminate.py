"""Sentences of two splits: cut, compared, dropped from the one that is evaluated less, counted."""

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from micro_transformer.data.corpora.base import Rows
from micro_transformer.data.decontaminate import drop_recurring, recurring
from micro_transformer.data.text import Report, same, sentences


def test_sentences_end_where_they_end():
    text = "«¿Qué es eso?» dijo Juan. Nada… ¡Nada!\n—Sí, 3.5 pesos—. ..."
    assert sentences(text) == ["quéeseso", "dijojuan", "nada", "nada", "sí35pesos"]


@given(st.text())
def test_sentences_leave_out_no_letter(text):
    assert "".join(sentences(text)) == same(text)


def test_the_split_evaluated_last_keeps_all():
    splits = {
        "train": Rows({"text": ["One here. Two.", "Three.", "Only here."]}),
        "val": Rows({"text": ["Four is mine. THREE", "five!"]}, numbers={"label": [0, 1]}),
        "test": Rows({"text": ["Two? Five."]}),
    }
    report = Report()
    assert recurring(splits, sentences)["test"] == {
        "sentences": 2,
        "in_another_split": 2,
        "share_of_letters": 1.0,
        "longest_letters": 4,
    }
    drop_recurring(splits, sentences, report)
    assert {split: rows.texts["text"] for split, rows in splits.items()} == {
        "train": ["Only here."],
        "val": ["Four is mine. THREE"],
        "test": ["Two? Five."],
    }
    assert splits["val"].numbers == {"label": [0]}
    assert report.as_dict() == {
        "hold a sentence of a later split, dropped from train": {"count": 2, "lines": [1, 2]},
        "hold a sentence of a later split, dropped from val": {"count": 1, "lines": [2]},
    }


def test_references_count_as_text():
    pairs = Rows({"source": ["a b"], "target": ["c d"]})
    held = Rows({"source": ["e f"], "target": ["g h"]}, entries={"references": [["g h", "c d"]]})
    splits = {"train": pairs, "val": held}
    assert recurring(splits, sentences)["val"]["in_another_split"] == 1
    drop_recurring(splits, sentences, Report())
    assert len(pairs) == 0 and len(held) == 1


WORDS = st.lists(st.sampled_from("abcde"), min_size=1, max_size=3).map(
    lambda w: " ".join(f"{x}." for x in w)
)


@given(st.tuples(*[st.lists(WORDS, max_size=6)] * 3))
def test_nothing_recurs_after_dropping_and_no_more_is_dropped(texts):
    splits = {
        n: Rows({"text": list(t)}) for n, t in zip(("train", "val", "test"), texts, strict=True)
    }
    drop_recurring(splits, sentences, Report())
    kept = {n: {s for t in rows.texts["text"] for s in sentences(t)} for n, rows in splits.items()}
    for a, b in combinations(kept, 2):
        assert not kept[a] & kept[b]
    later: set[str] = set()
    for name, before in zip(reversed(splits), reversed(texts), strict=True):
        assert splits[name].texts["text"] == [t for t in before if not later & {*sentences(t)}]
        later |= kept[name]
