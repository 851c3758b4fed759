"""Figures and tables of experts say what their files say, and a damaged file is no file."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest

from micro_transformer import plots
from micro_transformer.records.expert_files import BINS, routed_rows
from micro_transformer.records.record_files import load_records
from micro_transformer.records.rows import Board, collect
from micro_transformer.report.experts import experts_table, routed, tokens_table
from micro_transformer.report.figures import draw
from micro_transformer.report.study import study
from tests.made_records import make_sweep, write_all

TOP = [{"token": "\n", "share": 0.5, "lift": 2.0}]
FIRST = np.random.default_rng(0).integers(4, size=400)


def layer(shares: list[float], first: np.ndarray) -> dict:
    bins = [1.0] + [0.0] * (BINS - 1)
    return {
        "shares": shares,
        "histograms": {"probabilities": bins, "gates": bins[::-1]},
        "first_choices": first.tolist(),
        "text": "abc",
        "top_tokens": [TOP, TOP, TOP, []],
    }


def board(folder: Path, seeds: tuple[int, ...] = (42, 43), **damage: object) -> Board:
    """Seeds whose experts are the same under other numbers in layer 0, and unlike in layer 1."""
    records = make_sweep({"ffn": ["moe", "gelu"]}, seeds)
    for record in records:
        record.metrics |= {"experts/cv": 0.5, "experts/flops_per_token_counted": 1200.0}
        record.size["flops_per_token"] = 1200
    write_all(records, folder)
    for path in folder.glob("*/record.json"):
        record = json.loads(path.read_text())
        if record["choices"]["ffn"] != "moe":
            continue
        turn = record["seed"] - 42
        first = np.random.default_rng(record["seed"]).permutation(FIRST)
        layers = {
            "0": layer(np.roll([0.6, 0.3, 0.095, 0.005], turn).tolist(), (FIRST + turn) % 4),
            "1": layer([0.25] * 4, first),
        }
        layers["1"] |= copy.deepcopy(damage)
        path.with_name("experts.json").write_text(json.dumps({"layers": layers}))
    (found,) = collect(load_records(folder).records)
    return found


def test_loads_are_by_rank_and_dead_ones_are_named(tmp_path: Path) -> None:
    found = board(tmp_path)
    plot = plots.expert_loads(found, routed_rows(found))
    image = np.asarray(plot.figure.axes[0].images[0].get_array())
    assert image[0] == pytest.approx([2.4, 1.2, 0.38, 0.02]) and image[1] == pytest.approx([1] * 4)
    texts = [text.get_text() for text in plot.figure.axes[0].texts]
    assert texts[0] == "60.0 ± 0.0 %" and texts[3] == "0.5 ± 0.0 %\ndead"
    assert sum("dead" in text for text in texts) == 1
    assert "2 seeds" in plot.note and "Test CPU" in plot.note


def test_gates_are_drawn_by_layer(tmp_path: Path) -> None:
    found = board(tmp_path)
    left, right = plots.gate_scores(found, routed_rows(found)).figure.axes
    assert [len(axes.lines) for axes in (left, right)] == [2, 2]
    assert left.lines[0].get_ydata()[0] == right.lines[0].get_ydata()[-1] == 100


def test_agreement_is_one_for_renamed_experts_and_chance_for_others(tmp_path: Path) -> None:
    found = board(tmp_path)
    (each,) = routed(found)
    same, other = (pairs[0] for pairs in each.agreements.values())
    assert same.share == 1 and same.chance < 0.4
    assert other.share == pytest.approx(other.chance, abs=0.05)
    assert plots.expert_agreement(found, [(each.experts.row, each.agreements)])
    (row,) = experts_table(found, [each]).rows
    cells = dict(zip(experts_table(found, [each]).columns, row, strict=True))
    assert cells["Agreement over seeds"].value == pytest.approx((1 + other.share) / 2)
    assert cells["FLOPs/token, counted"].text == cells["FLOPs/token, predicted"].text == "1,200"
    lines = tokens_table(found, [each]).rows
    assert len(lines) == 8 and lines[0][-1].text == "↵ 50 % ×2.0" and lines[3][-1].text == "—"


def test_the_report_has_all_three_and_both_tables(tmp_path: Path) -> None:
    found = study(board(tmp_path))
    assert {"expert_loads", "gate_scores", "expert_agreement"} <= {d.name for d in draw(found, 0)}
    titles = [table.title.split(":")[0] for table in found.tables]
    assert {"Experts", "Tokens of each expert"} <= set(titles)


def test_one_seed_has_no_agreement(tmp_path: Path) -> None:
    found = board(tmp_path, seeds=(42,))
    (each,) = routed(found)
    assert each.agreements == {}
    assert plots.expert_agreement(found, [(each.experts.row, each.agreements)]) is None


def test_other_tokens_are_not_compared(tmp_path: Path) -> None:
    found = board(tmp_path, seeds=(42, 43))
    path = next(p for p in sorted(tmp_path.glob("*/experts.json")))
    page = json.loads(path.read_text())
    page["layers"]["1"]["text"] = "other"
    path.write_text(json.dumps(page))
    (each,) = routed(found)
    assert list(each.agreements) == ["0"]


@pytest.mark.parametrize(
    "damage",
    [
        {"shares": []},
        {"shares": ["a"]},
        {"shares": [0.5, 0.5]},
        {"first_choices": [7]},
        {"first_choices": [0.5]},
        {"first_choices": None},
        {"histograms": {}},
        {"histograms": {"probabilities": [1.0], "gates": [1.0]}},
        {"top_tokens": [[{"token": "a"}]]},
        {"top_tokens": [1, 2, 3, 4]},
    ],
)
def test_a_damaged_file_is_no_file(damage: dict, tmp_path: Path) -> None:
    found = board(tmp_path, **damage)
    assert routed_rows(found) == []
    assert plots.expert_loads(found, []) is plots.gate_scores(found, []) is None
    assert experts_table(found, routed(found)).rows == []
