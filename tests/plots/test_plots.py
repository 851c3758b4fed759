"""Figures say what their records say, each in its own look, and are left out without figures."""

import io
import itertools
import re
from pathlib import Path

import numpy as np
import pytest

from micro_transformer import plots
from micro_transformer.plots import style
from micro_transformer.plots.series import distinct, history
from micro_transformer.records.absence import absence
from micro_transformer.records.metrics import is_beside, measure, places, quality, stretches
from micro_transformer.records.record_files import load_records
from micro_transformer.records.rows import collect
from micro_transformer.report import tables_by_length
from micro_transformer.report.figures import draw, plots_of
from micro_transformer.report.study import study
from tests.made_records import add_places, make_sweep, write_all

FACTORS = {"posenc": ["rope", "learned"], "cache": ["contiguous", "sliding"]}
RESULTS = Path(__file__).parents[2] / "results"
SETTING = "cpu, Test CPU, 2 threads"


@pytest.fixture(scope="module")
def board():
    return collect(add_places(make_sweep(FACTORS, effects={("posenc", "learned"): 0.05})))[0]


def lines_of(plot):
    """Legend name -> the y values of the line."""
    axes = plot.figure.axes[0]
    handles, names = axes.get_legend_handles_labels()
    lines = [getattr(handle, "lines", [handle])[0] for handle in handles]
    return {name: line.get_ydata() for name, line in zip(names, lines, strict=True)}


def test_every_figure_has_units_n_and_device(board, tmp_path):
    records = write_all(board.records, tmp_path)
    assert records
    (loaded,) = collect(add_places(make_sweep(FACTORS)))
    for record, path in zip(loaded.records, sorted(tmp_path.rglob("record.json")), strict=True):
        record.path = path
    drawn = list(draw(study(loaded), 0))
    assert {d.name for d in drawn} >= {
        "ppl_by_epoch", "loss", "ppl_by_stretch", "loss_by_context", "recall_by_distance",
        "effects", "speed", "speed_by_context", "memory_by_context", "pareto-decode-tokens_per_s",
        "pareto-decode-ttft_ms", "pareto-decode-peak_rss_gb",
    }  # fmt: skip
    for each in drawn:
        assert "Test CPU" in each.caption, each.caption
        assert "seed" in each.caption and each.svg.startswith((b"<?xml", b"<svg"))
        assert each.png is None or each.png[1:4] == b"PNG"
    assert len({d.name for d in drawn}) == len(drawn)


def test_no_two_lines_look_alike_in_grey():
    looks = [style.line(i) for i in range(style.MOST_LINES)]
    assert len({(str(k["linestyle"]), k["marker"]) for k in looks}) == style.MOST_LINES
    assert len({(k["color"], k["marker"]) for k in looks}) == style.MOST_LINES


def test_a_stretch_that_cannot_be_measured_is_said_and_not_drawn(board):
    plot = plots.ppl_by_stretch(board)
    lines = lines_of(plot)
    assert np.isnan(lines["posenc=learned (2 alike)"]).tolist() == [False, True, True]
    rope = next(row for row in board.rows if row.levels["posenc"] == "rope")
    means = [rope.summary(key).mean for key in stretches(rope.ok[0].metrics).values()]
    assert lines["posenc=rope (2 alike)"] == pytest.approx(means)
    assert "missing: posenc=learned (2 alike): no trained position past 2048" in plot.note
    assert "16,384 targets" in "".join(t.get_text() for t in plot.figure.axes[0].get_xticklabels())


def test_loss_stands_at_its_context(board):
    plot = plots.loss_by_context(board)
    line = lines_of(plot)["posenc=learned cache=sliding"]
    assert np.isnan(line).tolist() == [False] * 4 + [True] * 2
    row = next(r for r in board.rows if r.name == "posenc=learned cache=sliding")
    assert line[:4] == pytest.approx(
        [row.summary(f"context/loss@{256 << k}").mean for k in range(4)]
    )
    assert "4,096 targets each" in plot.note and "no trained position past 2048" in plot.note


def test_the_recall_map_says_n_chance_and_trained_length(board):
    plot = plots.recall_map(board)
    image = plot.figure.axes[0].images[0].get_array()
    assert image.shape == (4, 7) and np.isnan(np.asarray(image.filled(np.nan))).sum() == 4
    assert image[0, 0] == pytest.approx(0.99)
    for word in ("n = 64 answers", "chance 0.062", "majority 0.031", "trained length", "3 seeds"):
        assert word in plot.note
    assert plots.recall_map(board, "needle") is None
    (single,) = collect(add_places(make_sweep(FACTORS, seeds=(1,))))
    texts = [t.get_text() for t in plots.recall_map(single).figure.axes[0].texts]
    assert any(" to " in text for text in texts) and "n/a" in texts


def test_memory_shows_measured_and_predicted_and_speed_its_spread(board):
    plot = plots.memory_by_context(board, SETTING)
    left, right = plot.figure.axes
    assert len(left.lines) == 2 * 2 and len(right.lines) == 2
    held = lines_of(plot)["cache=sliding (2 alike)"]
    assert held.max() == pytest.approx(4096 * 1024 / (1 << 20))
    speed = lines_of(plots.speed_by_context(board, SETTING))
    assert len(speed) == 4 and all(line[0] > line[-1] for line in speed.values())
    assert plots.memory_by_context(board, "elsewhere") is None


@pytest.mark.parametrize("caches", [["none"], ["none", "contiguous"]])
def test_a_cache_that_holds_nothing_has_no_place_on_a_logarithmic_axis(caches):
    records = add_places(make_sweep({"cache": caches}))
    for record in (r for r in records if r.choices["cache"] == "none"):
        zero = [k for k in record.cost if k.startswith(("cache/bytes@", "cache/predicted"))]
        record.cost |= dict.fromkeys(zero, 0)
    plot = plots.memory_by_context(collect(records)[0], SETTING)
    assert plots.rendered(plot)[1] and "0 is not drawn" in plot.note
    assert plot.figure.axes[0].get_yscale() == ("log" if len(caches) > 1 else "linear")


def test_without_their_figures_they_are_left_out():
    (plain,) = collect(make_sweep(FACTORS))
    of_board = (plots.ppl_by_epoch, plots.train_and_validation, plots.ppl_by_stretch,
                plots.loss_by_context, plots.recall_map)  # fmt: skip
    assert [figure(plain) for figure in of_board] == [None] * len(of_board)
    assert plots.speed_by_context(plain, SETTING) is plots.memory_by_context(plain, SETTING) is None
    assert tables_by_length.tables_by_place(plain) == []


def test_a_table_says_why_a_cell_is_empty(board):
    found = {table.title.split(":")[0]: table for table in tables_by_length.tables_by_place(board)}
    ppl = found["PPL by position"]
    assert ppl.columns == ["Config", "0-1k", "1k-4k", "4k-8k", "n"]
    learned = next(row for row in ppl.rows if "learned" in row[0].text)
    assert [cell.text for cell in learned[2:4]] == ["n/a: no trained position past 2048"] * 2
    assert "16,384" in ppl.note
    recall = found["Recall by distance (accuracy)"]
    assert recall.columns[1:5] == ["trained length", "chance", "majority", "256"]
    assert len(found) == 7


def test_a_text_too_short_is_the_reason_before_positions_are():
    (record, *_) = add_places(make_sweep({"posenc": ["learned"]}))
    record.metrics["n/windows"] = 0
    assert absence(record, "ppl/4k-8k") == "no text that long"
    assert absence(record, "never/asked") == ""


def test_rows_with_one_training_share_a_curve(tmp_path):
    records = make_sweep(FACTORS)
    for record, path in zip(records, sorted(write_all(records, tmp_path).iterdir()), strict=True):
        record.path = path / "record.json"
    lines = distinct(collect(records)[0], lambda row: history(row, "val/loss", "step"))
    assert [line.name for line in lines] == ["posenc=rope (2 alike)", "posenc=learned (2 alike)"]
    assert all(line.n == 3 and np.isfinite(line.std).all() for line in lines)


def test_names_of_places():
    keys = {"ppl/1k-4k", "ppl/0-1k", "ppl/4k-8k", "n/0-1k", "val/ppl", "context/loss@512",
            "context/loss@8192", "recall/accuracy@64", "recall/low@64", "recall/n@64"}  # fmt: skip
    assert list(stretches(keys)) == ["0-1k", "1k-4k", "4k-8k"]
    assert places(keys, "context/loss") == {512: "context/loss@512", 8192: "context/loss@8192"}
    assert [k for k in sorted(keys) if is_beside(k)] == ["n/0-1k", "recall/low@64", "recall/n@64"]
    assert quality(keys - {"val/ppl"}).key == "context/loss@512"
    assert quality({"n/0-1k", "recall/chance"}) is None
    assert not measure("cache/tokens_per_s@512").lower_is_better
    assert measure("cache/bytes@512").title == "Cache at 512 tokens (bytes)"


def test_long_notes_and_many_rows_still_fit(tmp_path):
    """Twenty rows: the first dozen are drawn and the note says so."""
    rows = {"posenc": ["rope"], "model": [f"{i}m" for i in range(20)]}
    (many,) = collect(add_places(make_sweep(rows, seeds=(1,))))
    plot = plots.loss_by_context(many)
    assert "first 12 of 20" in plot.note and len(lines_of(plot)) == 12
    shown = plot.figure.get_suptitle().split("\n")
    assert len(shown) <= 4 and all(len(line) <= 16 * 7.2 for line in shown)
    for one, two in itertools.combinations(lines_of(plot), 2):
        assert one != two


def texts_of(found):
    """Name -> the words of each figure: matplotlib notes beside what it draws what it says."""
    for plot in filter(None, plots_of(found)):
        file = io.StringIO()
        plot.figure.savefig(file, format="svg")
        yield plot.name, "\n".join(re.findall(r"<!-- (.*?) -->", file.getvalue()))


@pytest.mark.parametrize("name", sorted(p.name for p in RESULTS.iterdir()))
def test_no_figure_of_ours_shows_the_source_of_a_formula(name):
    for board in collect(load_records(RESULTS / name).records):
        assert not [name for name, text in texts_of(study(board)) if "$" in text]


@pytest.mark.parametrize("spread", [3.0, 3000.0])
def test_no_figure_shows_the_source_of_a_formula(spread, tmp_path):
    """Whatever its numbers span: half a decade or several."""
    records = add_places(make_sweep({"model": ["1m", "4m", "12m"]}, seeds=(1, 2)))
    for record, grown in zip(records, np.geomspace(1, spread, len(records)), strict=True):
        record.size["params"] = 1e6 * grown
        record.metrics |= {k: v * grown for k, v in record.metrics.items() if "ppl" in k and v}
        record.cost = {key: value and value * grown for key, value in record.cost.items()}
    (board,) = collect(load_records(write_all(records, tmp_path)).records)
    said = dict(texts_of(study(board)))
    assert len(said) >= 10, said.keys()
    assert not [name for name, text in said.items() if "$" in text]
    assert not [name for name, text in said.items() if not re.search(r"^\d", text, re.MULTILINE)]
