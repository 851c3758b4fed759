"""Laws over every corpus, found by listing: no leak, nothing of evaluation in the vocabulary, all
knobs in place.

They run on our grammar, and on the real texts where MT_DATA names a folder that has them.
"""

import hashlib
import os
import typing
from dataclasses import fields
from itertools import combinations, product
from pathlib import Path

import pytest
import yaml

from micro_transformer.config.components import find
from micro_transformer.data.build_dataset import prepare
from micro_transformer.data.corpora import shakespeare
from micro_transformer.data.corpora.catalog import catalog, corpus
from micro_transformer.data.sources import FOLDER_VARIABLE, Grammar
from micro_transformer.data.text import same
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
    """Of its own, or of that of the data with whose tokenizer it is prepared."""
    data = prepared(root, name, knobs, tier)
    other = data.manifest["tokenized_as"]
    trained_on = data if other == name else prepared(root, other, {}, tier)
    assert trained_on.manifest["tokenized_as"] == other
    letters = set("".join(texts(trained_on, "train"))) - {"\ufffd"}
    assert set(data.tokenizer.alphabet) == letters
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


@pytest.mark.slow
def test_tinyshakespeare_is_read_byte_for_byte(root):
    """The standard split: 1,003,854 and 111,540 characters, 65 of them distinct."""
    knobs = {"text": "raw", "split": "contiguous"}
    data = prepared(root, "shakespeare", knobs, "MT_DATA")
    whole = "".join(data.tokenizer.decode(data.tokens(s).tolist()) for s in ("train", "val"))
    assert hashlib.sha256(whole.encode()).hexdigest() == shakespeare.SHA256
    assert (len(data.tokens("train")), len(data.tokens("val"))) == (1_003_854, 111_540)
    assert len(data.tokenizer.alphabet) == 65
