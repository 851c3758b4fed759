"""Laws over every corpus, found by listing: no leak, nothing of evaluation in the vocabulary, all
knobs in place.

They run on our grammar, and on the real texts where MT_DATA names a folder that has them.
"""

import os
import typing
import zipfile
from dataclasses import fields
from itertools import combinations, product
from pathlib import Path

import pytest
import yaml

from micro_transformer.config.components import find
from micro_transformer.data.archives import zip_member
from micro_transformer.data.corpora import shakespeare, sst2, tatoeba
from micro_transformer.data.corpora.base import Document
from micro_transformer.data.corpora.catalog import catalog, corpus
from micro_transformer.data.corpora.splitting import blocks, components, grouped
from micro_transformer.data.prepare import prepare
from micro_transformer.data.sources import FOLDER_VARIABLE, Grammar
from micro_transformer.data.text import Report, same
from micro_transformer.data.tokenizer import PAD

CONF = Path(__file__).resolve().parents[2] / "conf" / "task"
CORPORA = sorted(catalog())
TIERS = ["grammar", pytest.param("MT_DATA", marks=pytest.mark.slow)]


def variants(name):
    """Every set of literal knobs but the tokenizer, which does not change the split."""
    hints = typing.get_type_hints(catalog()[name])
    knobs = {f.name: hints[f.name] for f in fields(catalog()[name]) if f.name != "tokenizer"}
    choices = {
        k: typing.get_args(h) for k, h in knobs.items() if typing.get_origin(h) is typing.Literal
    }
    return [dict(zip(choices, values, strict=True)) for values in product(*choices.values())]


CASES = [(name, knobs) for name in CORPORA for knobs in variants(name)]
IDS = [f"{name}-{'-'.join(knobs.values())}" for name, knobs in CASES]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


def prepared(root, name, knobs, tier):
    has_real = tier in [origin.tier for origin in catalog()[name]().origins()]
    if not has_real or (tier == "MT_DATA" and not os.environ.get(FOLDER_VARIABLE)):
        pytest.skip(f"no {tier} for {name} here")
    small = {"stories": 400} if name == "micro" else {}
    return prepare(corpus(name, {**knobs, **small, "tokenizer": "char"}), root / tier, tier=tier)


def texts(data, split):
    """Every text of a split in every column, references included."""
    for column in data.splits[split]["columns"]:
        for i in range(data.splits[split]["rows"]):
            yield data.tokenizer.decode(data.row(split, i, column).tolist())
        if column == "target" and split != "train":
            yield from (text for row in data.entries(split, "references") for text in row)


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("name, knobs", CASES, ids=IDS)
def test_no_text_is_in_two_splits(root, name, knobs, tier):
    """Whole rows, compared by letters and digits: a law without exemption."""
    data = prepared(root, name, knobs, tier)
    seen = {split: {same(text) for text in texts(data, split)} - {""} for split in data.splits}
    for a, b in combinations(seen, 2):
        assert not seen[a] & seen[b]


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("name, knobs", CASES, ids=IDS)
def test_no_sentence_is_in_two_splits(root, name, knobs, tier):
    """Or it is said why, the manifest holds how many are, and the exemption is needed."""
    data = prepared(root, name, knobs, tier)
    cut = corpus(name, knobs).sentences
    found = {s: [key for text in texts(data, s) for key in cut(text)] for s in data.splits}
    kinds = {split: set(keys) for split, keys in found.items()}
    shared = {
        split: [key for key in found[split] if any(key in kinds[o] for o in kinds if o != split)]
        for split in found
    }
    exempt = corpus(name, knobs).may_recur(tier)
    assert bool(exempt) == any(shared.values())
    assert data.manifest["recurring"]["why"] == exempt
    for split, said in data.manifest["recurring"]["splits"].items():
        assert bool(said["in_another_split"]) == bool(shared[split])
        assert said["longest_letters"] == max(map(len, shared[split]), default=0)


PROSE = [(n, k) for n, k in CASES if n in ("shakespeare", "cuentos", "regenta")]


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, knobs", PROSE, ids=[f"{n}-{'-'.join(k.values())}" for n, k in PROSE]
)
def test_no_passage_is_in_two_splits(root, name, knobs):
    """Authors print a story twice and change a word in each sentence: no 60 letters in a row stand
    in two splits of real prose.
    """
    data = prepared(root, name, knobs, "MT_DATA")
    letters = {split: same("".join(texts(data, split))) for split in data.splits}
    for a, b in combinations(letters, 2):
        known = {letters[a][i : i + 40] for i in range(0, len(letters[a]) - 39, 20)}
        assert not any(letters[b][i : i + 40] in known for i in range(len(letters[b]) - 39))


@pytest.mark.slow
def test_what_the_benchmark_leaks_is_known(root):
    """TinyShakespeare, 90/10 in order: short questions and cries, 0.4 % of the letters."""
    knobs = {"text": "raw", "split": "contiguous"}
    recurring = prepared(root, "shakespeare", knobs, "MT_DATA").manifest["recurring"]
    assert "byte for byte" in recurring["why"]
    assert recurring["splits"]["val"] == {
        "sentences": 1484,
        "in_another_split": 50,
        "share_of_letters": 0.0042,
        "longest_letters": 15,
    }


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("name, knobs", CASES, ids=IDS)
def test_no_group_is_in_two_splits(root, name, knobs, tier):
    splits = prepared(root, name, knobs, tier).splits
    for a, b in combinations(splits, 2):
        assert not set(splits[a]["groups"]) & set(splits[b]["groups"])


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("name, knobs", CASES, ids=IDS)
def test_the_vocabulary_is_of_the_train_split_alone(root, name, knobs, tier):
    data = prepared(root, name, knobs, tier)
    assert set(data.tokenizer.alphabet) == set("".join(texts(data, "train"))) - {"\ufffd"}
    for split in data.splits:
        for column in data.splits[split]["columns"]:
            assert (data.tokens(split, column) != PAD).all()


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("name, knobs", CASES, ids=IDS)
def test_the_manifest_says_what_is_there(root, name, knobs, tier):
    data = prepared(root, name, knobs, tier)
    m = data.manifest
    assert m["tier"] == tier and m["licence"] and m["biases"] and m["about"]
    assert ("SYNTHETIC" in m["about"]) == (tier == "grammar")
    assert m["rows"] == sum(split["rows"] for split in m["splits"].values())
    for split, counts in m["splits"].items():
        for column, sizes in counts["columns"].items():
            ids = data.tokens(split, column)
            assert sizes["tokens"] == len(ids) == data.ends(split, column)[-1]
            text = data.tokenizer.decode(ids.tolist())
            assert sizes["characters"] == len(text)
            assert sizes["unknown"] or sizes["bytes"] == len(text.encode())


@pytest.mark.parametrize("name", CORPORA)
def test_text_can_always_be_had(name):
    """The last origin is our grammar: no network, no folder, still something honest to run on."""
    assert catalog()[name]().origins()[-1].tier == Grammar.tier


@pytest.mark.parametrize("path", sorted(CONF.glob("*.yaml")), ids=lambda p: p.stem)
def test_yaml_and_corpus_agree_on_defaults(path):
    """`make data` prepares the corpus' defaults, a run asks for the yaml's."""
    knobs = yaml.safe_load(path.read_text())
    name = find("task", knobs["kind"]).facts["corpus"]
    if name is None:
        pytest.skip("draws its own")
    default = catalog()[name]()
    assert {k: v for k, v in knobs.items() if k in default.knobs} == default.knobs


def test_knobs_are_checked():
    with pytest.raises(ValueError, match="task=shake.*no such corpus"):
        corpus("shake", {})
    with pytest.raises(ValueError, match="text=loud: must be one of raw, clean"):
        corpus("shakespeare", {"text": "loud"})


# --- splitting


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


# --- readers


def test_a_play_is_rendered_in_the_format_of_tinyshakespeare():
    markdown = (
        "# Hamlet\n\n## ACT I\n\n_Enter two\nguards_\n\n**BERNARDO**  \nWho's there?  \n"
        "Speak!  \n\n_Noise_\n\n"
        "Stand!\n\n**FRANCISCO**  \n_\\[Aside]_  \nNay, answer me:  \n\n_Exeunt\n"
    )
    expected = "BERNARDO:\nWho's there?\nSpeak!\nStand!\n\nFRANCISCO:\nNay, answer me:\n\n"
    assert shakespeare.render(markdown) == expected


def test_who_speaks_is_no_part_of_a_sentence():
    speech, paragraph, cut = "ROMEO:\nHo! What, ho?\n\n", "y luego exclamó:\n", "?\nAy, so.\n\n"
    plays, novel = corpus("shakespeare", {}), corpus("regenta", {})
    assert plays.sentences(speech) == novel.sentences(speech) == ["ho", "whatho"]
    assert plays.sentences("ROMEO:\n\n") == [] and plays.sentences(cut) == ["ayso"]
    assert novel.sentences(paragraph) == ["yluegoexclamó"]


def test_pairs_keep_case_and_all_references():
    pairs = [(f"Word {i} x", f"Palabra {i} y") for i in range(400)]
    pairs += [
        ("Word 1 x", "Otra 1 z"),
        ("word 1 x!", "OTRA dos"),
        ("", "nada"),
        ("Word 2 x", "Palabra 2 y."),
    ]
    report = Report()
    splits = tatoeba.Tatoeba().rows(pairs, report)
    assert report.counts == {"a side without words, dropped": 1, "repeated pair, dropped": 1}
    shown = {
        s: dict(zip(rows.texts["source"], rows.entries["references"], strict=True))
        for s, rows in splits.items()
        if s != "train"
    }
    everything = {**shown["val"], **shown["test"]}
    if "Word 1 x" in everything:
        assert everything["Word 1 x"] == ["Palabra 1 y", "Otra 1 z", "OTRA dos"]
    else:
        assert splits["train"].texts["source"].count("Word 1 x") == 2
    assert all(text[0] == "W" for text in everything)


def test_pairs_are_shuffled_before_they_are_sliced():
    """The file is sorted by length: a slice from its head would be exclamations."""
    pairs = [(f"{'long ' * (i // 300)}word {i}", f"palabra {i}") for i in range(30_000)]
    splits = tatoeba.Tatoeba(size="20k").rows(pairs, Report())
    means = {s: sum(map(len, r.texts["source"])) / len(r) for s, r in splits.items()}
    overall = sum(len(en) for en, _ in pairs) / len(pairs)
    assert all(abs(mean - overall) < 0.1 * overall for mean in means.values())
    assert {s: len(r) for s, r in splits.items()} == {"train": 18_000, "val": 1_000, "test": 1_000}


def test_lines_without_two_columns_are_counted():
    report = Report()
    assert tatoeba.parse_tsv("a\tb\tc\nalone\n\nd\te", report) == [("a", "b"), ("d", "e")]
    assert report.counts == {"fewer than two columns, dropped": 1}


def test_home_assistant_texts_are_joined_by_key(tmp_path):
    wheel = tmp_path / "home.whl"
    english = '{"a": {"x": "Turn on", "y": "One"}, "b": "See {url} now", "c": "Only english here"}'
    spanish = '{"a": {"x": "Encender", "y": "Uno"}, "b": "Ver {url} ya"}'
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("homeassistant/components/lamp/translations/en.json", english)
        archive.writestr("homeassistant/components/lamp/translations/es.json", spanish)
        archive.writestr("homeassistant/components/lamp/translations/de.json", "{}")
    report = Report()
    assert tatoeba.read_home_assistant([wheel], report) == [("Turn on", "Encender")]
    assert list(report.counts.values()) == [2]


def test_sentiment_rows_without_label_are_counted():
    report = Report()
    rows = list(
        sst2.parse_tsv("sentence\tlabel\ngood film \t1\nno label\n\t0\nbad\t7\nbad \t0", report)
    )
    assert rows == [("good film", 1), ("bad", 0)]
    assert report.as_dict() == {"no sentence or label, dropped": {"count": 3, "lines": [3, 4, 5]}}


def test_a_phrase_of_an_evaluation_sentence_is_no_training_row():
    evaluated = [("the film is a small wonder .", 1)]
    items = [("a small wonder", 1), ("wonder", 1), ("A SMALL , wonder", 1), ("a wonder", 1)]
    items += [("i say the film is a small wonder . really", 1)]
    kept = sst2._apart(items, evaluated, Report())
    assert [text for text, _ in kept] == ["wonder", "a wonder"]


def test_whole_sentences_are_the_longest_rows():
    rows = [
        ("is a small wonder", 1),
        ("the film is a small wonder", 1),
        ("bad", 0),
        ("one two three four", 0),
    ]
    found = [text for text, _ in sst2._maximal(rows)]
    assert found == ["the film is a small wonder", "one two three four"]


@pytest.mark.slow
def test_tinyshakespeare_is_read_byte_for_byte(root):
    """The standard split: 1,003,854 and 111,540 characters, 65 of them distinct."""
    knobs = {"text": "raw", "split": "contiguous"}
    data = prepared(root, "shakespeare", knobs, "MT_DATA")
    whole = "".join(data.tokenizer.decode(data.tokens(s).tolist()) for s in ("train", "val"))
    import hashlib

    assert hashlib.sha256(whole.encode()).hexdigest() == shakespeare.SHA256
    assert (len(data.tokens("train")), len(data.tokens("val"))) == (1_003_854, 111_540)
    assert len(data.tokenizer.alphabet) == 65


def test_zip_members_are_read_by_name(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("inner/a.txt", "text")
    assert zip_member(tmp_path / "a.zip", "inner/a.txt", 4) == b"text"
