"""Pairs for translation: no leak between splits, case and accents kept, hostile lines counted."""

import os
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from micro_transformer.data.build_dataset import prepare
from micro_transformer.data.corpora import tatoeba
from micro_transformer.data.corpora.tatoeba import Tatoeba
from micro_transformer.data.sources import FOLDER_VARIABLE
from micro_transformer.data.text import Report, same
from micro_transformer.data.tokenizer import UNK, train

SPLITS = ("train", "val", "test")
SENTENCES = st.integers(0, 60).map(lambda i: f"Word {i}")


def sides(rows):
    """Keys of all sentences of a split, per side."""
    references = rows.entries.get("references", [])
    targets = {same(t) for of in references for t in of} | set(map(same, rows.texts["target"]))
    return set(map(same, rows.texts["source"])), targets


@given(st.lists(st.tuples(SENTENCES, SENTENCES), min_size=1, max_size=80))
@settings(max_examples=60)
def test_no_sentence_of_either_language_is_in_two_splits(pairs):
    """Whatever shares a source or a target, by however many steps, stays together."""
    splits = Tatoeba(pairs=0).rows([(a, f"{b} es") for a, b in pairs], Report())
    for side in (0, 1):
        keys = [sides(splits[split])[side] for split in SPLITS]
        assert len(set.union(*keys)) == sum(map(len, keys))


def test_spelling_apart_from_letters_keeps_sentences_together():
    pairs = [(f"Word {i} ", f"Palabra {i}") for i in range(200)]
    pairs += [(f"¡WORD {i}!", f"palabra {i}, otra") for i in range(200)]
    splits = Tatoeba(pairs=0).rows(pairs, Report())
    assert sum(len(rows.texts["source"]) for rows in splits.values()) >= 200
    keys = [sides(splits[split])[0] for split in SPLITS]
    assert len(set.union(*keys)) == sum(map(len, keys)) == 200


def test_both_directions_have_the_same_pairs_in_each_split():
    pairs = [(f"Word {i // 2}", f"Palabra {i}") for i in range(300)]
    there, back = (Tatoeba(direction=d).rows(pairs, Report()) for d in ("en-es", "es-en"))
    for split in SPLITS:
        assert sides(there[split]) == sides(back[split])[::-1]
    assert max(map(len, there["test"].entries["references"])) == 2
    assert max(map(len, back["test"].entries["references"])) == 1


@pytest.mark.parametrize("wanted, found", [(100, (80, 10, 10)), (0, (240, 30, 30)), (3, (1, 1, 1))])
def test_pairs_are_those_of_all_splits(wanted, found):
    pairs = [(f"Word {i}", f"Palabra {i}") for i in range(300)]
    random.Random(0).shuffle(pairs)
    splits = Tatoeba(pairs=wanted).rows(pairs, Report())
    assert tuple(len(splits[split]) for split in SPLITS) == found


def made(monkeypatch, folder, pairs, **knobs):
    """The prepared set of these pairs in place of those of the grammar."""
    monkeypatch.setattr(tatoeba, "read_grammar", lambda paths, report: pairs)
    return prepare(Tatoeba(**knobs), folder, tier="grammar")


PLAIN = [(f"He saw {i} dogs.", f"Vio {i} perros.") for i in range(100)]


def test_empty_sides_are_dropped_and_the_manifest_counts_them(monkeypatch, tmp_path):
    empty = [("", "Nada."), ("Nothing.", ""), (" \t ", "Nada."), ("...", "¿?"), ("", "")]
    data = made(monkeypatch, tmp_path, PLAIN + empty)
    assert data.manifest["cleaning"]["a side without words, dropped"]["count"] == 5
    assert data.manifest["rows"] == 100
    for split in SPLITS:
        for column in ("source", "target"):
            assert len(data.row(split, 0, column)) > 0


def test_a_repeated_pair_is_dropped_and_counted(monkeypatch, tmp_path):
    data = made(monkeypatch, tmp_path, [*PLAIN, *PLAIN[:7], ("HE saw 0 dogs!", "¡vio 0 perros!")])
    assert data.manifest["cleaning"]["repeated pair, dropped"]["count"] == 8
    assert data.manifest["rows"] == 100


def test_pairs_over_the_limit_are_dropped_and_counted(monkeypatch, tmp_path):
    """On either side; the limit is in tokens."""
    long = [(f"{'x' * 90} {i}", f"Corto {i}.") for i in range(5)]
    long += [(f"Short {i}.", f"{'y' * 90} {i}") for i in range(6)]
    data = made(monkeypatch, tmp_path, PLAIN + long, tokenizer="byte", max_tokens=40)
    said = {k: v["count"] for k, v in data.manifest["cleaning"].items() if "over 40" in k}
    assert sum(said.values()) == 11 and data.manifest["rows"] == 100
    for split in SPLITS:
        for column in ("source", "target"):
            rows = range(data.splits[split]["rows"])
            assert max(len(data.row(split, i, column)) for i in rows) <= 40


def test_references_keep_case_accents_and_spelling(monkeypatch, tmp_path):
    said = ["¿Dónde está el Ñandú?", "¿EN DÓNDE está… el ñandú?"]
    data = made(monkeypatch, tmp_path, PLAIN + [("Where is the Rhea?", text) for text in said])
    for split in SPLITS:
        num = data.splits[split]["rows"]
        decode = data.tokenizer.decode
        texts = [decode(data.row(split, i, "target").tolist()) for i in range(num)]
        if split != "train":
            texts += [t for of in data.entries(split, "references") for t in of]
        if said[0] in texts:
            assert said[1] in texts
            return
    pytest.fail("the pair is in no split")


@pytest.mark.parametrize(
    "text", ["¿Dónde está El Niño? ¡AQUÍ!", "Piña… «Ñu» — ª", " <pad> <eos> ", "🦙"]
)
def test_pieces_of_both_languages_join_to_the_text(text):
    """Case, accents and what looks like our special tokens; no text is unknown."""
    pieces = train("bpe_4k", [side for pair in PLAIN for side in pair])
    ids = pieces.encode(text)
    assert pieces.decode(ids.tolist()) == text and UNK not in ids and ids.min() > UNK


def test_one_tokenizer_has_pieces_of_both_languages(monkeypatch, tmp_path):
    tokens = made(monkeypatch, tmp_path, PLAIN).tokenizer
    assert len(tokens.encode("Vio perros")) <= 3 and len(tokens.encode("He saw dogs")) <= 4


def test_without_a_source_our_own_sentences_stand_in(monkeypatch, tmp_path):
    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)
    data = prepare(Tatoeba(), tmp_path)
    assert data.manifest["tier"] == "grammar" and "SYNTHETIC" in data.manifest["about"]
    assert data.splits["train"]["rows"] >= 400
    assert min(data.splits[s]["rows"] for s in ("val", "test")) >= 100


@pytest.mark.slow
@pytest.mark.parametrize("direction", ["en-es", "es-en"])
def test_the_real_pairs_fill_their_splits(tmp_path, direction):
    """20,000 pairs, of which a tenth is held out, with several references for some sources."""
    if not os.environ.get(FOLDER_VARIABLE):
        pytest.skip(f"{FOLDER_VARIABLE} is not set")
    data = prepare(Tatoeba(direction=direction), tmp_path, tier="MT_DATA")
    assert 17_000 <= data.splits["train"]["rows"] <= 18_500
    counts = [len(of) for of in data.entries("test", "references")]
    assert 1_000 <= sum(counts) <= 1_500 and max(counts) > 1
    assert all(c["in_another_split"] == 0 for c in data.manifest["recurring"]["splits"].values())
