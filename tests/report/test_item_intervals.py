"""Differences between scores of sentences need an interval over seeds and one over sentences."""

import json

import numpy as np
import pytest

from micro_transformer.records.record_files import load_records
from micro_transformer.records.rows import collect
from micro_transformer.report.item_intervals import intervals
from micro_transformer.report.study import study
from micro_transformer.stats import translation_metrics
from tests.made_records import make_sweep, write_all
from tests.stats.test_paired_bootstrap import over_sentences, systems

SENTENCES = 60


def board(folder, wrong, seeds=(42, 43, 44)):
    """Decodings with the share of wrong words in their translations; also the texts."""
    records = make_sweep({"decoding": list(wrong)}, seeds)
    texts = {}
    for record in records:
        share = wrong[record.choices["decoding"]]
        written, _, references = systems(record.seed, SENTENCES, share, 0)
        texts[record.choices["decoding"], record.seed] = written, references
    write_all(records, folder)
    for path in folder.glob("*/record.json"):
        record = json.loads(path.read_text())
        written, references = texts[record["choices"]["decoding"], record["seed"]]
        counts = translation_metrics.statistics("bleu", written, references).astype(int)
        scores = {"bleu": {"statistics": counts.tolist()}}
        path.with_name("translation_scores.val.json").write_text(json.dumps(scores))
    (found,) = collect(load_records(folder).records)
    return found, texts


def by_name(table):
    heads = table.columns
    return {row[0].text: dict(zip(heads, row, strict=True)) for row in table.rows}


def test_a_large_difference_is_one_and_a_small_one_is_not(tmp_path):
    found, texts = board(tmp_path, {"greedy": 0.30, "beam": 0.10, "top_p": 0.102})
    table = intervals(found)
    rows = by_name(table)
    assert "beam" in table.title and set(rows) == {"decoding=greedy", "decoding=top_p"}
    assert rows["decoding=greedy"]["Verdict"].value == "differs"
    assert rows["decoding=top_p"]["Verdict"].value == "undecided"
    each = [
        over_sentences(texts["greedy", s][0], texts["beam", s][0], texts["beam", s][1]).difference
        for s in (42, 43, 44)
    ]
    assert rows["decoding=greedy"]["Difference"].value == pytest.approx(sum(each) / 3)
    assert any(t.title == table.title for t in study(found).tables)


def test_one_seed_is_not_tested(tmp_path):
    table = intervals(board(tmp_path, {"greedy": 0.3, "beam": 0.1}, seeds=(42,))[0])
    ((*_, verdict, seeds, sentences),) = table.rows
    assert (verdict.value, seeds.value, sentences.value) == ("untested", 1, SENTENCES)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"bleu": {"statistics": [[1], [1, 2]]}}'])
def test_without_whole_scores_nothing_is_said(tmp_path, content):
    found, _ = board(tmp_path, {"greedy": 0.3, "beam": 0.1})
    for path in tmp_path.glob("*/translation_scores.val.json"):
        path.write_text(content)
    assert intervals(found) is None


def test_other_sentences_are_not_compared(tmp_path):
    found, _ = board(tmp_path, {"greedy": 0.3, "beam": 0.1})
    path = found.rows[0].ok[0].path.with_name("translation_scores.val.json")
    page = json.loads(path.read_text())
    page["bleu"]["statistics"].pop()
    path.write_text(json.dumps(page))
    assert intervals(found) is None


def test_classifications_are_compared_by_what_is_right(tmp_path):
    right = {"greedy": 0.6, "beam": 0.9, "top_p": 0.895}
    records = make_sweep({"decoding": list(right)}, (42, 43, 44))
    write_all(records, tmp_path)
    hits = {}
    for path in tmp_path.glob("*/record.json"):
        record = json.loads(path.read_text())
        name = record["choices"]["decoding"]
        draw = np.random.default_rng([record["seed"], len(name)])
        hits[name, record["seed"]] = draw.random(SENTENCES) < right[name]
        page = {"right": hits[name, record["seed"]].astype(int).tolist()}
        path.with_name("classification_scores.test.json").write_text(json.dumps(page))
    (found,) = collect(load_records(tmp_path).records)
    table = intervals(found)
    rows = by_name(table)
    assert table.title == "Accuracy (%) against decoding=beam, test sentences"
    assert rows["decoding=greedy"]["Verdict"].value == "differs"
    assert rows["decoding=top_p"]["Verdict"].value == "undecided"
    each = [hits["greedy", s].mean() - hits["beam", s].mean() for s in (42, 43, 44)]
    assert rows["decoding=greedy"]["Difference"].value == pytest.approx(100 * np.mean(each))
