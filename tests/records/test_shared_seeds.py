"""Nothing is ranked by means over different seeds."""

import itertools
import math

import numpy as np
import pytest

from micro_transformer.records.metrics import PPL, TOKENS_PER_S
from micro_transformer.records.rows import collect
from micro_transformer.records.shared_seeds import seeds_of
from micro_transformer.report.figures import plots_of
from micro_transformer.report.study import study
from micro_transformer.report.summary_table import brief
from micro_transformer.stats.pareto import pareto
from tests.made_records import make_record

EASY = {("rope", 42): 2.0, ("rope", 43): 2.1, ("rope", 44): 1.6,
        ("alibi", 42): 1.98, ("alibi", 43): 2.08}  # fmt: skip


def board_of(losses, **changes):
    """(posenc, seed) -> loss, or the status of a run without one."""
    records = []
    for (posenc, seed), loss in losses.items():
        if isinstance(loss, str):
            failed = {"status": loss, "error": loss, "metrics": {}, "cost": {}}
            records.append(make_record(seed, posenc=posenc, **failed))
        else:
            records.append(make_record(seed, loss, posenc=posenc, **changes))
    (board,) = collect(records)
    return board


def said(board):
    found = study(board)
    return [claim.text for claim in (*found.headlines, *found.facts)]


def best_of(board):
    return [text for text in said(board) if "est mean" in text or "called the best" in text]


def test_an_easy_seed_makes_nobody_the_best():
    board = board_of(EASY)
    (text,) = best_of(board)
    assert "on the seeds that all have (42, 43): posenc=alibi with" in text and "n = 2" in text
    table = brief(board)
    assert table.columns[2] == "PPL on seeds 42, 43" and "seeds 42, 43 only" in table.note
    ppl = {row[0].text: row[2].value for row in table.rows}
    assert ppl["posenc=rope"] > ppl["posenc=alibi"]
    points = {p.row.name: p for p in pareto(board, TOKENS_PER_S, PPL, board.settings[0])}
    assert {p.quality.n for p in points.values()} == {2}
    assert points["posenc=alibi"].nominal and not points["posenc=rope"].nominal
    notes = {plot.name: plot.note for plot in plots_of(study(board)) if plot}
    assert all("seeds 42, 43 only" in notes[name] for name in notes if name != "effects"), notes
    assert any("different seeds" in text for text in said(board))


def test_without_a_shared_seed_nobody_is_the_best():
    board = board_of({("rope", 1): 1.5, ("rope", 2): 1.6, ("alibi", 3): 1.7, ("alibi", 4): 1.8})
    (text,) = best_of(board)
    assert text.startswith("No configuration is called the best: rows have no seed in common")
    assert any("rope and alibi have no seed in common; not compared" in t for t in said(board))
    assert all(p.nominal for p in pareto(board, TOKENS_PER_S, PPL, board.settings[0]))
    assert "no seed in common" in brief(board).note and "on seeds" not in "".join(
        brief(board).columns
    )


@pytest.mark.parametrize("status", ["nan", "oom", "killed"])
def test_a_seed_that_failed_is_said_beside_the_best(status):
    board = board_of(EASY | {("alibi", 44): status})
    (text,) = best_of(board)
    assert "posenc=alibi" in text and "it has no result of seed 44" in text


def test_one_seed_of_one_configuration_is_ranked_on_that_seed():
    board = board_of({**EASY, ("none", 43): 2.09})
    (text,) = best_of(board)
    assert "3 configurations on the seeds that all have (43): posenc=alibi" in text
    assert "on seed 43 only" in brief(board).note


def test_equal_seeds_need_no_warning():
    board = board_of({(p, s): 1.6 + s / 100 for p in ("rope", "alibi") for s in (1, 2)})
    assert seeds_of(board.rows).warning == "" and len(brief(board).columns) == 7
    assert not any("different seeds" in text for text in said(board))


def test_rows_of_other_data_have_no_best_and_no_front():
    records = [make_record(s, 1.6 + s / 9, posenc=p, fingerprints={"data": p, "train": p + str(s)})
               for p in ("rope", "alibi") for s in (1, 2)]  # fmt: skip
    (board,) = collect(records)
    found = study(board)
    assert board.mixed and not best_of(board) and not found.fronts and found.law is None


@pytest.mark.parametrize("draw", range(40))
def test_whoever_loses_on_every_shared_seed_is_never_the_best(draw):
    rng = np.random.default_rng(draw)
    names, seeds = "abcd"[: rng.integers(2, 5)], range(1, 5)
    losses = {
        (name, seed): float(rng.normal(1.6 + 0.5 * math.sin(seed), 0.1))
        for name, seed in itertools.product(names, seeds)
        if rng.random() < 0.7
    }
    board = board_of(losses)
    winners = [n for text in best_of(board) for n in names if f"posenc={n} with" in text]
    for point in pareto(board, TOKENS_PER_S, PPL, board.settings[0]):
        if point.on_line or point.nominal:  # speeds are all the same
            winners.append(point.row.levels.get("posenc", names[0]))
    for winner, other in itertools.permutations(names, 2):
        both = [s for s in seeds if (winner, s) in losses and (other, s) in losses]
        if both and all(losses[winner, s] > losses[other, s] for s in both):
            assert winner not in winners
