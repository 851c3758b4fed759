"""Prepared sets: built once by many, whole or absent, verified at every open."""

import json
import multiprocessing

import pytest

from micro_transformer.data.build_dataset import prepare
from micro_transformer.data.corpora.micro import Micro
from micro_transformer.data.prepared_dataset import DataDamaged, DataMissing, open_prepared

CORPUS = Micro(stories=40)


def hash_of(root):
    return prepare(CORPUS, root).digest


@pytest.mark.parametrize("round_", range(2))
def test_parallel_preparations_give_one_set(tmp_path, round_):
    """benchmarks/ has 50 rounds of 8."""
    with multiprocessing.get_context("forkserver").Pool(8) as pool:
        assert len(set(pool.map(hash_of, [tmp_path] * 8))) == 1
    left = {p.name for p in (tmp_path / "prepared").iterdir()} - {"micro-en-40-char"}
    assert left == {".micro-en-40-char.lock"}


def test_preparing_twice_gives_the_same_bytes(tmp_path):
    a, b = prepare(CORPUS, tmp_path / "a"), prepare(CORPUS, tmp_path / "b")
    for path in a.folder.iterdir():
        assert path.read_bytes() == (b.folder / path.name).read_bytes()


@pytest.mark.parametrize(
    "name", ["val.text.bin", "train.text.ends.bin", "val.sentiment.numbers.bin"]
)
def test_a_flipped_bit_is_found(tmp_path, name):
    path = prepare(CORPUS, tmp_path).folder / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataDamaged, match=name):
        open_prepared(tmp_path, "micro", CORPUS.knobs)
    assert prepare(CORPUS, tmp_path).digest  # and preparing repairs it


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 1}', "null"])
def test_a_broken_manifest_is_refused(tmp_path, text):
    folder = prepare(CORPUS, tmp_path).folder
    (folder / "manifest.json").write_text(text)
    with pytest.raises(DataDamaged, match="manifest.json"):
        open_prepared(tmp_path, "micro", CORPUS.knobs)


def test_an_edited_vocabulary_is_refused(tmp_path):
    path = prepare(CORPUS, tmp_path).folder / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["tokenizer"]["alphabet"] = manifest["tokenizer"]["alphabet"][::-1]
    path.write_text(json.dumps(manifest))
    with pytest.raises(DataDamaged):
        open_prepared(tmp_path, "micro", CORPUS.knobs)


def test_a_set_of_an_older_recipe_is_made_again(tmp_path):
    """The same source came to other splits then; a run may still open it, preparing renews it."""
    prepared = prepare(CORPUS, tmp_path)
    path = prepared.folder / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["recipe"]
    path.write_text(json.dumps(manifest))
    assert open_prepared(tmp_path, "micro", CORPUS.knobs).digest == prepared.digest
    assert "recipe" in prepare(CORPUS, tmp_path).manifest


def test_a_build_that_fails_leaves_nothing(tmp_path):
    with pytest.raises(DataMissing, match="split train of task=micro is empty"):
        prepare(Micro(stories=1), tmp_path)
    assert not [p for p in (tmp_path / "prepared").iterdir() if not p.name.endswith(".lock")]


def test_rows_can_be_read_back(tmp_path):
    data = prepare(CORPUS, tmp_path)
    assert data.splits["train"]["rows"] == 36 and data.splits["val"]["rows"] == 4
    rows = [data.row("val", i) for i in range(4)]
    assert sum(map(len, rows)) == len(data.tokens("val")) == data.ends("val")[-1]
    with pytest.raises(ValueError, match="split=test"):
        data.tokens("test")


def test_what_a_killed_process_left_is_cleared(tmp_path):
    part = tmp_path / "prepared" / ".micro-en-40-char.part"
    part.mkdir(parents=True)
    (part / "train.text.bin").write_bytes(b"half")
    assert "half" not in str(prepare(CORPUS, tmp_path).manifest)
    assert not part.exists()


def die_while_writing(root):
    import os

    from micro_transformer.data import files

    files.write_json = lambda *_: os.kill(os.getpid(), 9)
    prepare(CORPUS, root)


def test_a_kill_in_the_middle_leaves_no_set_and_no_stale_lock(tmp_path):
    process = multiprocessing.get_context("spawn").Process(
        target=die_while_writing, args=(tmp_path,)
    )
    process.start()
    process.join()
    assert process.exitcode == -9
    with pytest.raises(DataMissing):
        open_prepared(tmp_path, "micro", CORPUS.knobs)
    assert prepare(CORPUS, tmp_path).digest
    process.close()


def test_rows_over_the_limit_are_dropped_and_counted(tmp_path, monkeypatch):
    """Sentence tasks only: a filter on documents would delete exactly the long ones."""
    monkeypatch.setattr(Micro, "max_tokens", 350)
    short, whole = prepare(CORPUS, tmp_path), Micro(stories=41)
    case = short.manifest["cleaning"]["over 350 tokens, dropped from train"]
    assert case["count"] == 36 - short.splits["train"]["rows"] > 0
    assert all(len(short.row("train", i)) <= 350 for i in range(short.splits["train"]["rows"]))
    assert len(short.numbers("train", "sentiment")) == short.splits["train"]["rows"]
    monkeypatch.setattr(Micro, "max_tokens", None)
    assert not prepare(whole, tmp_path).manifest["cleaning"]
