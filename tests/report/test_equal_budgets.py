"""Losses at equal tokens, FLOPs and time: made-up curves with known answers."""

import json

import pytest

from micro_transformer import plots
from micro_transformer.records.configurations import configurations
from micro_transformer.records.record_files import HISTORY, RECORD, load_records
from micro_transformer.records.rows import collect
from micro_transformer.records.run_record import TRAINED_BESIDE, to_dict
from micro_transformer.records.training_curves import COSTS, FLOPS, SECONDS, TOKENS
from micro_transformer.report import equal_budgets, readme
from micro_transformer.report.equal_budgets import PESSIMISTIC
from micro_transformer.report.figures import plots_of
from micro_transformer.report.study import study
from micro_transformer.stats.budgets import budget, readings
from tests.made_records import make_record

TOKENS_PER_STEP, MS_PER_STEP = 1000, {"dense": 10, "moe": 20, "wide": 40}
FLOPS_PER_TOKEN = {"dense": 1e6, "moe": 1.1e6, "wide": 2e6}
LOSS = {"dense": 2.0, "moe": 1.9, "wide": 1.8}


def training(ffn, seed=42, steps=100, evals=(25, 50, 75, 100), **changes):
    """(record, history): at its end the loss is LOSS + 100 / steps - 1, before that 0.1 higher a
    quarter; seed 43 is 0.02 higher, and slower."""
    slow = 1 + 0.05 * (seed - 42)
    seconds = MS_PER_STEP[ffn] * steps * slow / 1000
    end = LOSS[ffn] + 100 / steps - 1 + 0.02 * (seed - 42)
    record = make_record(
        seed,
        end,
        ffn=ffn,
        id=f"{ffn}-{seed}-{steps}",
        overrides=[f"ffn={ffn}", f"train.steps={steps}", f"seed={seed}"],
        fingerprints={"train": f"{ffn}-{seed}-{steps}", "code": "c0de", "data": "da7a"},
        size={"params": 1e6, "trainable": 1e6, "active_params": 1e6,
              "flops_per_token": FLOPS_PER_TOKEN[ffn]},
        cost={"train/seconds": seconds, "train/ms_per_step": MS_PER_STEP[ffn] * slow,
              "train/tokens_per_s": TOKENS_PER_STEP * steps / seconds},
    )  # fmt: skip
    record.config["train"] |= {"steps": steps, "eval_every": 25}
    for name, value in changes.items():
        setattr(record, name, value)
    history = [{"step": 1, "train/loss": 4.0, "seconds": seconds / steps}]
    history += [
        {"step": steps * at // 100, "seconds": seconds * at / 100, "train/loss": 1.0,
         "val/loss": end + 0.1 * (100 - at) / 25}
        for at in evals
    ]  # fmt: skip
    return record, history


@pytest.fixture
def board_of(tmp_path):
    """Writes trainings and loads them as a board."""

    def write(*trainings):
        for i, (record, history) in enumerate(trainings):
            folder = tmp_path / "moe" / f"{i:03}"
            folder.mkdir(parents=True)
            (folder / RECORD).write_text(json.dumps(to_dict(record)))
            if history:
                lines = "".join(json.dumps(line) + "\n" for line in history)
                (folder / HISTORY).write_text(lines)
        (board,) = collect(load_records(tmp_path).records)
        return board

    return write


def read(board, cost):
    """name of the configuration -> seed -> (loss, whether a training ends there)."""
    found = equal_budgets.compared(board)
    at = budget(found, cost)
    return {
        c.row.name.removeprefix("ffn="): {
            seed: (round(r.loss, 6), r.is_fair) for seed, r in readings(c, at).items()
        }
        for c in found
    }


def sweep(ffns=("dense", "moe", "wide"), seeds=(42, 43), **changes):
    return [training(ffn, seed, **changes) for ffn in ffns for seed in seeds]


def test_a_budget_is_the_cheapest_whole_training_of_its_seed(board_of):
    found = equal_budgets.compared(board_of(*sweep()))
    assert budget(found, TOKENS).by_seed == {42: 100_000, 43: 100_000}
    assert budget(found, FLOPS).by_seed == {42: 3e11, 43: 3e11}
    assert budget(found, SECONDS).by_seed == {42: 1.0, 43: pytest.approx(1.05)}


def test_a_reading_is_the_best_evaluation_at_or_below_the_budget(board_of):
    board = board_of(*sweep())
    assert read(board, TOKENS) == {
        "dense": {42: (2.0, True), 43: (2.02, True)},
        "moe": {42: (1.9, True), 43: (1.92, True)},
        "wide": {42: (1.8, True), 43: (1.82, True)},
    }
    # 100 / 1.1 and 50 steps
    assert read(board, FLOPS)["moe"] == {42: (2.0, False), 43: (2.02, False)}
    assert read(board, FLOPS)["wide"] == {42: (2.0, False), 43: (2.02, False)}
    # 50 and 25 steps
    assert read(board, SECONDS)["moe"] == {42: (2.1, False), 43: (2.12, False)}
    assert read(board, SECONDS)["wide"] == {42: (2.1, False), 43: (2.12, False)}


def test_a_loss_that_rose_again_is_not_read(board_of):
    dense, history = training("dense")
    history[-1]["val/loss"] = 2.5
    board = board_of((dense, history), training("moe"))
    assert read(board, TOKENS)["dense"][42] == (2.1, True)


def test_a_training_that_ends_within_the_budget_is_read_in_place_of_a_longer_one(board_of):
    """It makes no budget smaller."""
    shorter = [training("moe", seed, steps) for seed in (42, 43) for steps in (50, 90)]
    for _, history in shorter:
        history[-1]["val/loss"] -= 1
    board = board_of(*sweep(("dense", "moe")), *shorter)
    assert "train.steps" in board.factors and len(configurations(board)) == 2
    assert budget(equal_budgets.compared(board), TOKENS).by_seed[42] == 100_000
    assert read(board, FLOPS)["moe"][42] == (round(0.9 + 100 / 90 - 1, 6), True)
    assert read(board, SECONDS)["moe"][42] == (1.9, True)  # 2.1 in a longer one
    losses, differences = equal_budgets.equal_budgets(board)
    for table in (losses, differences):
        assert not any(PESSIMISTIC in cell.text for row in table.rows for cell in row)


def test_a_training_that_ends_far_below_the_budget_is_no_fair_reading(board_of):
    board = board_of(*sweep(("dense", "moe"), (42,)), training("moe", steps=40))
    assert read(board, SECONDS)["moe"][42] == (2.1, False)  # not 3.4, at the end of the short one


@pytest.mark.parametrize("over, expected", [(1.004, (1.9, True)), (1.006, (2.0, False))])
def test_a_cost_half_a_percent_above_the_budget_is_within_it(board_of, monkeypatch, over, expected):
    """That of a router, without which its net would never be read at the end of a training."""
    monkeypatch.setitem(FLOPS_PER_TOKEN, "moe", over * FLOPS_PER_TOKEN["dense"])
    board = board_of(training("dense"), training("moe"))
    assert read(board, FLOPS)["moe"][42] == expected


def test_the_tables(board_of):
    losses, differences = equal_budgets.equal_budgets(board_of(*sweep()))
    assert losses.columns[5:] == [
        "Validation loss (nats) at 100k tokens", "Validation loss (nats) at 300 GFLOP",
        "Validation loss (nats) at 1.00 to 1.05 s", "n",
    ]  # fmt: skip
    shown = {row[0].text: [cell.text for cell in row[1:]] for row in losses.rows}
    assert shown["ffn=moe"] == [
        "1,000,000", "1,000,000", "1,100,000", "20.50 ± 0.71",
        "1.910 ± 0.014", "2.010 ± 0.014 † (90 steps)", "2.110 ± 0.014 † (48 steps)", "2",
    ]  # fmt: skip
    rows = [[cell.text for cell in row] for row in differences.rows]
    assert len(rows) == 9
    assert rows[0][:5] == ["100k tokens", "ffn=dense", "ffn=moe", "+0.10", "+0.10 to +0.10"]
    assert rows[0][6:] == ["differs", "2"] and rows[3][2] == "ffn=moe †"


def test_an_unpaired_seed_is_not_compared(board_of):
    board = board_of(*sweep(), training("moe", 44))
    assert all(set(seeds) == {42, 43} for seeds in read(board, TOKENS).values())
    (losses, differences) = equal_budgets.equal_budgets(board)
    assert {row[-1].text for row in losses.rows} == {row[-1].text for row in differences.rows}


def test_without_a_common_seed_nothing_is_read(board_of):
    board = board_of(training("dense", 42), training("moe", 43))
    (losses,) = equal_budgets.equal_budgets(board)
    assert losses.columns[5] == "Validation loss (nats) at equal tokens"
    assert {row[5].text for row in losses.rows} == {"n/a: no seed that all have"}


def test_what_cannot_be_read_says_why(board_of):
    late = [training("wide", seed, evals=(100,)) for seed in (42, 43)]
    board = board_of(*sweep(("dense",)), *late, (training("moe")[0], []))
    losses, differences = equal_budgets.equal_budgets(board)
    shown = {row[0].text: [cell.text for cell in row] for row in losses.rows}
    assert shown["ffn=moe"][5:8] == ["n/a: no curve of the validation loss"] * 3
    assert shown["ffn=wide"][6:8] == [
        f"n/a: no evaluation within the budget ({steps} steps)" for steps in (50, 24)
    ]
    assert shown["ffn=wide"][5].startswith("1.810") and shown["ffn=dense"][6].startswith("2.010")
    assert [row[0].text for row in differences.rows] == ["100k tokens"]


def test_times_beside_other_jobs_and_of_other_machines_are_not_compared(board_of):
    beside = [training("moe", seed, flags=[TRAINED_BESIDE]) for seed in (42, 43)]
    elsewhere = [training("wide", seed) for seed in (42, 43)]
    for record, _ in elsewhere:
        record.env |= {"cpu": "Other CPU"}
    extra = [training("dense", seed) for seed in (44, 45)]
    board = board_of(*sweep(("dense",)), *extra, *beside, *elsewhere)
    losses, _ = equal_budgets.equal_budgets(board)
    shown = {row[0].text: [cell.text for cell in row] for row in losses.rows}
    assert shown["ffn=moe"][7] == "n/a: trained beside other jobs"
    assert shown["ffn=wide"][7] == "n/a: trained on another machine"
    assert shown["ffn=moe"][5].startswith("1.910")


def test_what_is_measured_on_one_training_makes_no_configuration(board_of):
    trainings = sweep()
    again = [training(r.choices["ffn"], r.seed) for r, _ in trainings]
    for record, _ in again:
        record.choices |= {"cache": "paged"}
    board = board_of(*trainings, *again)
    assert len(board.rows) == 6
    assert [len(c.curves) for c in configurations(board)] == [2, 2, 2]
    assert [c.row.name for c in configurations(board)] == ["ffn=dense", "ffn=moe", "ffn=wide"]


def test_mixed_records_are_read_and_not_compared(board_of):
    trainings = sweep(("dense", "moe"))
    trainings[-1][0].env |= {"torch": "1.0"}
    tables = equal_budgets.equal_budgets(board_of(*trainings))
    assert len(tables) == 1


def without(board):
    return not equal_budgets.equal_budgets(board) and not any(
        plot and plot.name == "loss_by_cost" for plot in plots_of(study(board))
    )


def test_equal_flops_have_no_section(board_of, monkeypatch):
    monkeypatch.setitem(FLOPS_PER_TOKEN, "moe", FLOPS_PER_TOKEN["dense"])
    assert without(board_of(*sweep(("dense", "moe"))))


def test_frozen_nets_have_no_section(board_of):
    trainings = sweep()
    for record, _ in trainings:
        record.size["trainable"] = 1000
    assert without(board_of(*trainings))


def test_without_any_curve_there_is_no_section(board_of):
    assert without(board_of(*((record, []) for record, _ in sweep())))


def test_the_report_and_the_documents_have_it(board_of, tmp_path):
    board = board_of(*sweep())
    titles = [table.title for table in study(board).tables]
    assert "Loss at equal tokens, FLOPs and time: shakespeare" in titles
    text = readme.refreshed("<!-- budgets:moe -->\nold\n<!-- /budgets -->", tmp_path)
    assert "old" not in text and "2.010 ± 0.014 † (90 steps)" in text and "Holm p" in text


def test_the_figure_has_a_line_a_configuration_in_each_panel(board_of):
    board = board_of(*sweep(), training("moe", 42, 40), training("moe", 43, 40))
    (plot,) = [p for p in plots_of(study(board)) if p and p.name == "loss_by_cost"]
    assert plots.rendered(plot)[1] and "n = 2 seeds" in plot.note and "Test CPU" in plot.note
    assert len(plot.figure.axes) == len(COSTS)
    for axes in plot.figure.axes:
        assert axes.get_legend_handles_labels()[1] == ["ffn=dense", "ffn=moe", "ffn=wide"]
    tokens, flops, seconds = (axes.lines[0].get_xdata() for axes in plot.figure.axes)
    assert tokens == pytest.approx([25e3, 50e3, 75e3, 100e3])
    assert flops == pytest.approx(3e6 * tokens)
    assert seconds == pytest.approx([0.25625, 0.5125, 0.76875, 1.025])


def test_a_cost_that_no_training_has_is_no_panel(board_of):
    trainings = sweep(flags=[TRAINED_BESIDE], evals=(100,))
    (plot,) = [p for p in plots_of(study(board_of(*trainings))) if p and p.name == "loss_by_cost"]
    names = [axes.get_xlabel() for axes in plot.figure.axes]
    assert names == ["Training tokens", "Training FLOPs"] and plots.rendered(plot)[1]
