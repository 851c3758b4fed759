"""Scores of classified sentences, and the content of their files."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest

from micro_transformer.evals.classification import Classification
from micro_transformer.records.run_record import SAMPLE_MARK
from tests.evals.subjects import sentence_subject


@pytest.fixture(scope="module")
def subject(tmp_path_factory):
    return sentence_subject(tmp_path_factory.mktemp("classification"), "sst2")


def run(subject, folder, split="val", shown=0):
    return dict(Classification(split=split, shown=shown).run(replace(subject, folder=folder)))


def table(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


@pytest.mark.parametrize("split", ["val", "test"])
def test_all_files_say_the_same(subject, tmp_path, split):
    found = run(subject, tmp_path, split)
    page = json.loads((tmp_path / f"classification_scores.{split}.json").read_text())
    head, *rows = table(tmp_path / f"predictions.{split}.tsv")
    (_, *names), *confusion = table(tmp_path / f"confusion.{split}.tsv")
    assert head == ["sentence", "label", "prediction", "p(bad)", "p(good)"]
    assert names == ["read as bad", "read as good"]
    assert len(rows) == found[f"{split}/n"] == len(page["right"])
    right = [row[1] == row[2] for row in rows]
    assert page["right"] == right and found[f"{split}/accuracy"] == np.mean(right)
    assert [page["classes"][i] for i in page["predicted"]] == [row[2] for row in rows]
    assert [page["classes"][i] for i in page["labels"]] == [row[1] for row in rows]
    for label, *counts in confusion:
        for name, count in zip(page["classes"], counts, strict=True):
            assert int(count) == sum(row[1:3] == [label, name] for row in rows)
    for row in rows[:50]:
        assert float(row[3]) + float(row[4]) == pytest.approx(1, abs=2e-6)
    assert page["scores"] == {name.partition("/")[2]: value for name, value in found.items()}
    score = subject.task.score(subject.model, split)
    assert {f"{split}/{name}": value for name, value in score.items()}.items() <= found.items()


def test_the_baseline_is_the_most_frequent_class_of_the_training_split(subject, tmp_path):
    found, task = run(subject, tmp_path), subject.task
    counts = np.bincount(task.labels("train"))
    assert found["val/majority"] == np.mean(task.labels("val") == counts.argmax())


def test_sentences_are_shown_with_label_prediction_and_probability(subject, tmp_path):
    run(subject, tmp_path, shown=5)
    mark, *lines = (tmp_path / "samples.txt").read_text(encoding="utf-8").splitlines()
    assert mark == f"{SAMPLE_MARK} 1, val" and len(lines) == 5
    known = {row[0]: row for row in table(tmp_path / "predictions.val.tsv")[1:]}
    for line in lines:
        said, _, text = line.partition("%): ")
        row = known[text]
        sure = max(map(float, row[3:]))
        assert said == f"{' x'[row[1] != row[2]]} {row[1]}, read as {row[2]} ({sure:.0%}"[:-1]


def test_no_samples_are_written_where_none_are_shown(subject, tmp_path):
    run(subject, tmp_path)
    assert not (tmp_path / "samples.txt").exists()
