"""Runs are judged by the quality that their task states; records that state none as before."""

import pytest

from micro_transformer.records.metrics import LOSS, PPL
from micro_transformer.records.record_files import load_records
from micro_transformer.records.rows import collect
from micro_transformer.records.run_record import NotARecord, from_dict, to_dict
from micro_transformer.records.tables import judged_quality, shown_quality
from micro_transformer.tasks.micro import Micro
from tests.made_records import make_record


def board_of(**changes):
    record = make_record(**changes)
    record.metrics["val/agreement"] = 0.5
    (board,) = collect([record])
    return board


@pytest.mark.parametrize("lower_is_better", [True, False])
def test_the_stated_quality_judges_and_its_direction_is_the_tasks(lower_is_better):
    """Whatever the name suggests, and though a loss was measured too."""
    quality = {"name": "val/agreement", "lower_is_better": lower_is_better}
    board = board_of(quality=quality)
    judged = judged_quality(board)
    assert judged.key == "val/agreement" and judged.lower_is_better == lower_is_better
    assert shown_quality(board) == judged


@pytest.mark.parametrize("quality", [{}, {"name": "test/bleu", "lower_is_better": False}])
def test_without_a_measured_quality_the_loss_judges_and_ppl_is_shown(quality):
    board = board_of(quality=quality)
    assert judged_quality(board) == LOSS and shown_quality(board) == PPL


def test_a_run_states_the_quality_of_its_task(real_sweep):
    records = load_records(real_sweep).records
    assert records and all(r.quality == Micro.quality._asdict() for r in records)


@pytest.mark.parametrize(
    "quality", [{"name": "val/loss"}, {"name": 1, "lower_is_better": True}, [], "val/loss"]
)
def test_a_quality_that_is_none_is_refused(quality):
    content = to_dict(make_record()) | {"quality": quality}
    with pytest.raises(NotARecord, match="quality="):
        from_dict(content)
    del content["quality"]
    assert from_dict(content).quality == {}
