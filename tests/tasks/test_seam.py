"""What the trainer, evaluators and benches ask of a task, over every task that needs no fetched
data and a toy one of labels."""

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from micro_transformer.build import training
from micro_transformer.config import components
from micro_transformer.config.schema import choices_of, read_choice
from micro_transformer.data.tokenizer import PAD
from micro_transformer.store.checkpoints import Entry
from micro_transformer.tasks.base import LOSS, Quality, Task
from micro_transformer.training.ranks import Ranks
from micro_transformer.training.step import TrainingStep
from micro_transformer.training.trainer import Trainer
from tests.evals.subjects import TRAIN, subjects
from tests.tasks.toy_labels import Labelled, MeanOfTokens


def trainer_of(folder, task, model, **changes):
    knobs = {"steps": 2, "eval_every": 1, "batch_size": 2, "optimizer": "adamw", "clip": None}
    recipe = replace(training.recipe({"train": TRAIN}), **knobs | {"warmup_steps": 0} | changes)
    return Trainer(model, task, recipe, seed=3, device="cpu", entry=Entry(folder, "toy"))


def gradients(model):
    return torch.cat([p.grad.flatten() for p in model.parameters()])


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    """name -> (task, net, a batch)."""
    found = {"labels": (Labelled(), MeanOfTokens(), Labelled().train_batch(1, 2, 2, 6))}
    for subject in subjects(tmp_path_factory.mktemp("subjects")):
        batch = subject.task.train_batch(1, 2, 4, 32)
        found[type(subject.task).__name__] = (subject.task, subject.model, batch)
    return found


def test_scored_is_what_the_loss_is_a_mean_over(cases):
    """The sum of losses over rows, each weighted by its count, is that of the whole batch."""
    for name, (task, model, batch) in cases.items():
        rows = [type(batch)(*(t[i : i + 1] for t in batch)) for i in range(len(batch[0]))]
        parts = sum(task.loss(model, row) * task.num_scored(row) for row in rows)
        whole = task.loss(model, batch) * task.num_scored(batch)
        torch.testing.assert_close(parts, whole, msg=name)
        assert task.num_scored(batch) > 0


def test_tokens_are_those_that_are_no_padding(cases):
    for task, _, batch in cases.values():
        padded = type(batch)(torch.nn.functional.pad(batch.ids, (0, 3), value=PAD), *batch[1:])
        read = [batch.ids, *([batch.source] if "source_target" in task.gives else [])]
        real = sum(token != PAD for ids in read for row in ids.tolist() for token in row)
        assert int(task.num_tokens(batch)) == int(task.num_tokens(padded)) == real > 0


def test_two_steps_of_labels_are_those_over_all_rows_of_their_micro_batches(tmp_path):
    """Class 0 counts as a label and padding as no token, though no batch is as large as another."""
    task, model = Labelled(), MeanOfTokens()
    trainer = trainer_of(tmp_path, task, model, accumulate=3)
    batches = [trainer.training_step.batches(step) for step in range(2)]
    ids, labels = (torch.cat(column) for column in zip(*batches[0], strict=True))
    assert {len(b.labels) for b in batches[0]} == {2, 4, 6} and (labels == 0).any()
    expected = torch.nn.functional.cross_entropy(model(ids), labels)
    progress = trainer.run()
    assert progress.history[0]["train/loss"] == pytest.approx(expected.item())
    real = [sum(int((b.ids != PAD).sum()) for b in step) for step in batches]
    assert progress.tokens == sum(real) < sum(b.ids.numel() for step in batches for b in step)
    epochs = [line["epoch"] for line in progress.history]
    assert epochs == [pytest.approx(real[0] / 1000), pytest.approx(sum(real) / 1000)]
    speed = progress.cost["train/tokens_per_s"]
    assert speed == pytest.approx(sum(real) / progress.train_seconds)


@pytest.mark.parametrize("ranks", [1, 2])
def test_gradients_of_labels_are_those_over_all_rows(tmp_path, ranks):
    """Over micro-batches and ranks."""
    task, model = Labelled(), MeanOfTokens()
    trainer = trainer_of(tmp_path, task, model, accumulate=3)
    batches = trainer.training_step.batches(0)
    ids, labels = (torch.cat(column) for column in zip(*batches, strict=True))
    torch.nn.functional.cross_entropy(model(ids), labels).backward()
    expected = gradients(model)
    model.zero_grad()
    for rank in range(ranks):
        trainer.training_step.ranks = Ranks(rank, ranks)
        for share, weight in trainer.training_step.shares(batches):
            (task.loss(model, share) * weight / ranks).backward()
    torch.testing.assert_close(gradients(model), expected)


@pytest.mark.parametrize("lower_is_better", [True, False])
def test_early_stopping_and_the_best_weights_follow_the_tasks_quality(tmp_path, lower_is_better):
    task, model = Labelled(), MeanOfTokens()
    task.quality = Quality("val/accuracy", lower_is_better)
    values = iter([0.5, 0.7, 0.6, 0.4, 0.3, 0.2])
    task.score = lambda *_: {"loss": 1.0, "accuracy": next(values)}
    progress = trainer_of(tmp_path, task, model, steps=6, patience=3).run()
    assert (progress.best_step, progress.best) == ((6, 0.2) if lower_is_better else (2, 0.7))
    assert progress.stopped_early != lower_is_better


def test_test_data_select_no_weights():
    task = Task(None)
    for quality in (Quality("test/bleu", False), Quality("recall/trained_length", False)):
        task.quality = quality
        assert task.watch == LOSS
    task.quality = Quality("val/accuracy", False)
    assert task.watch == task.quality


def test_counting_waits_for_no_device(cases, monkeypatch):
    """A count is an int that the host knows, or a tensor that nobody reads before the step ends."""
    for reads in ("item", "tolist", "__int__", "__bool__", "__float__"):
        monkeypatch.setattr(torch.Tensor, reads, lambda *_: pytest.fail("waits"))
    for task, _, batch in cases.values():
        TrainingStep.shares(SimpleNamespace(task=task, ranks=Ranks()), [batch, batch])
        task.num_tokens(batch)


@pytest.mark.parametrize("choice", choices_of("task"))
def test_the_quality_of_a_task_has_a_direction(choice):
    quality = components.find("task", read_choice("task", choice)["kind"]).load().quality
    worse, better = (1.0, 0.0) if quality.lower_is_better else (0.0, 1.0)
    assert quality.is_better(better, worse) and not quality.is_better(worse, worse)
    assert not quality.is_better(worse, better) and not quality.is_better(math.nan, worse)
