"""Recall by distance, with intervals and controls."""

import logging

import pytest
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from micro_transformer.evals.recall import RecallAtDistance
from tests.evals.subjects import recall_subject, run, with_model
from tests.tasks.test_recall import Lookup


def test_an_oracle_recalls_everything_and_a_blind_one_nothing(tmp_path):
    measure = RecallAtDistance(shortest=8, doublings=3, sequences=20, queries=3)
    subject = recall_subject(tmp_path)
    for blind, share in ((False, 1.0), (True, 0.0)):
        found = dict(measure.run(with_model(subject, Lookup(subject.task, blind))))
        assert next(iter(found)) == "recall/trained_length"
        assert found["recall/trained_length"] == share
        for distance in (8, 16, 32, 64):
            assert found[f"recall/accuracy@{distance}"] == share
            assert found[f"recall/n@{distance}"] == 60
            low, high = found[f"recall/low@{distance}"], found[f"recall/high@{distance}"]
            assert low <= share <= high and 0.05 < high - low < 0.07  # 3.84 / (60 + 3.84)


def test_chance_is_any_value_present_and_majority_the_most_frequent_answer(tmp_path):
    subject = recall_subject(tmp_path)
    measure = RecallAtDistance(shortest=8, doublings=3, sequences=50, queries=3)
    found = dict(measure.run(subject))
    assert found["recall/chance"] == 1 / 4
    assert 1 / 8 < found["recall/majority"] < 1.4 / 8


def test_beyond_a_table_of_positions_there_is_no_recall(tmp_path, caplog):
    subject = recall_subject(tmp_path, posenc="learned")
    measure = RecallAtDistance(shortest=128, doublings=1, sequences=2, queries=2)
    with caplog.at_level(logging.WARNING):
        found = dict(measure.run(subject))
    assert found["recall/n@128"] == 4 and found["recall/accuracy@128"] is not None
    assert found["recall/accuracy@256"] is found["recall/low@256"] is None
    assert found["recall/n@256"] == 0
    assert "positions are a table trained to 256 of 263 tokens" in caplog.text


class Largest(TorchDispatchMode):
    """Remembers the largest storage that any operation returned, in bytes."""

    bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        found = [t.untyped_storage().nbytes() for t in tree_leaves(out) if isinstance(t, Tensor)]
        self.bytes = max([self.bytes, *found])
        return out


@pytest.mark.parametrize("posenc", ["rope", "alibi"])
def test_no_tensor_grows_with_the_square_of_the_length(posenc, tmp_path):
    """4103 tokens: scores of one head would take 67 MB; ALiBi's bias is formed by rows."""
    subject = recall_subject(tmp_path, posenc=posenc)
    measure = RecallAtDistance(shortest=4096, doublings=0, sequences=1, queries=4)
    with Largest() as largest:
        found = dict(measure.run(subject))
    assert found["recall/n@4096"] == 4 and largest.bytes < 2**25 < 4 * 4103**2


@pytest.mark.slow
def test_a_small_net_with_the_key_shift_learns_to_recall(tmp_path):
    """The recipe at its first length alone, 64 tokens: in 120 steps, far above chance nearby."""
    words = ["task=recall", "task.window=64", "model=1m", "model.num_layers=2", "posenc=alibi"]
    words += ["model.qk_norm=false", "model.key_shift=true", "train=recall", "eval=recall"]
    words += ["train.steps=120", "train.eval_every=120", "train.context=64", "train.batch_size=32"]
    words += ["eval.measures.recall.doublings=0"]
    metrics = run(tmp_path, *words).metrics
    assert metrics["recall/trained_length"] >= 0.95 and metrics["val/recall"] >= 0.95
    assert metrics["recall/n@64"] == 64
    assert metrics["recall/chance"] == 1 / 32 and metrics["recall/majority"] < 0.15
