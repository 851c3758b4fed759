"""Pairs of sentences: shifts, batches of similar cost, a score that no pad and no batch changes."""

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from micro_transformer.build import training
from micro_transformer.data.build_dataset import prepare
from micro_transformer.data.corpora.tatoeba import Tatoeba as Corpus
from micro_transformer.data.prepared_dataset import DataMissing
from micro_transformer.data.tokenizer import BOS, EOS, PAD
from micro_transformer.store.checkpoints import Entry
from micro_transformer.tasks import bucketed, translation
from micro_transformer.tasks.base import LOSS
from micro_transformer.tasks.tatoeba import Tatoeba
from micro_transformer.training.trainer import Trainer
from tests.evals.subjects import TRAIN
from tests.tasks.toy_translator import Translator, Uniform

PAIRS, BATCH, CONTEXT = 400, 8, 32


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    prepare(Corpus(pairs=PAIRS), folder, tier="grammar")
    return folder


@pytest.fixture
def task(root):
    return Tatoeba(root, pairs=PAIRS)


def rows(task, split="train"):
    """(source, target) of every row, as ids."""
    data = task.data
    num = data.splits[split]["rows"]
    return [
        tuple(tuple(data.row(split, i, c).tolist()) for c in ("source", "target"))
        for i in range(num)
    ]


def pairs_of(batch):
    """(source, target) of every row of a batch, without pads, BOS and EOS."""
    real = [[t[t != PAD].tolist() for t in column] for column in (batch.source, batch.ids)]
    return [(tuple(source), tuple(ids[1:])) for source, ids in zip(*real, strict=True)]


def epoch(task, seed=1, first=0):
    """The batches of an epoch that starts at a step."""
    num = len(task._buckets("train").cuts(BATCH * CONTEXT)) - 1
    return [task.train_batch(seed, first + s, BATCH, CONTEXT) for s in range(num)]


def test_the_target_is_the_input_shifted_by_one(task):
    batch = task.train_batch(1, 0, BATCH, CONTEXT)
    for ids, targets in zip(batch.ids.tolist(), batch.targets.tolist(), strict=True):
        end = targets.index(EOS)
        assert ids[0] == BOS and ids[1 : end + 1] == targets[:end]
        assert not {PAD, BOS, EOS} & set(targets[:end])
        assert set(ids[end + 1 :] + targets[end + 1 :]) <= {PAD}


def test_an_epoch_has_every_pair_once_and_the_next_another_order(task):
    batches = epoch(task)
    again = epoch(task, first=len(batches))
    found = [pair for batch in batches for pair in pairs_of(batch)]
    assert Counter(found) == Counter(rows(task))
    assert found != (then := [pair for batch in again for pair in pairs_of(batch)])
    assert Counter(then) == Counter(found)


def test_an_epoch_has_as_many_tokens_as_the_task_says(task):
    assert sum(int(task.num_tokens(batch)) for batch in epoch(task)) == task.train_tokens


def test_no_side_of_a_batch_passes_its_budget(task):
    sizes = [(b.ids.numel(), b.source.numel()) for b in epoch(task)]
    assert max(max(size) for size in sizes) <= BATCH * CONTEXT
    assert np.mean([ids for ids, _ in sizes]) > 0.6 * BATCH * CONTEXT


def test_a_batch_depends_on_its_arguments_alone(root, task):
    for step in (7, 0, 1000):
        task.train_batch(1, step, BATCH, CONTEXT)
    fresh = Tatoeba(root, pairs=PAIRS)
    for step in (3, 333):
        used, new = (t.train_batch(1, step, BATCH, CONTEXT) for t in (task, fresh))
        assert all(map(torch.equal, used, new))
        other = task.train_batch(2, step, BATCH, CONTEXT)
        assert used.ids.shape != other.ids.shape or not torch.equal(used.ids, other.ids)


def test_a_pair_longer_than_the_budget_is_a_batch_of_its_own(task):
    batch = task.train_batch(1, 0, 1, 1)
    assert len(batch.ids) == 1 and batch.ids.numel() > 1


@torch.no_grad()
@pytest.mark.parametrize("at_once", [1, 50, 10**6])
def test_the_score_is_that_of_each_pair_alone(task, monkeypatch, at_once):
    """An oracle without batches, pads or float32."""
    monkeypatch.setattr(bucketed, "SCORED_AT_ONCE", at_once)
    model = Translator(task.vocab_size)
    total, tokens = 0.0, 0
    for source, target in rows(task, "val"):
        ids, targets = torch.tensor([[BOS, *target]]), torch.tensor([*target, EOS])
        logits = model(ids, source=torch.tensor([source]))[0].double()
        total += float(F.cross_entropy(logits, targets, reduction="sum"))
        tokens += len(targets)
    score = task.score(model)
    assert score["loss"] == pytest.approx(total / tokens, rel=1e-6)
    assert score["ppl"] == pytest.approx(math.exp(total / tokens), rel=1e-5)


def test_a_uniform_model_scores_the_size_of_the_vocabulary(task):
    assert task.score(Uniform(task.vocab_size))["loss"] == pytest.approx(math.log(task.vocab_size))


def test_pads_are_never_scored(task):
    model, batch = Translator(task.vocab_size), task.train_batch(1, 0, BATCH, CONTEXT)
    wider = translation.SourceTarget(*(F.pad(t, (0, 5), value=PAD) for t in batch))
    assert int(task.num_scored(wider)) == int(task.num_scored(batch))
    assert int(task.num_tokens(wider)) == int(task.num_tokens(batch))
    for smoothing in (0.0, 0.1):
        torch.testing.assert_close(
            task.loss(model, wider, smoothing), task.loss(model, batch, smoothing)
        )


def test_smoothing_is_a_mean_over_all_classes_and_changes_no_score(task):
    model, batch = Translator(task.vocab_size), task.train_batch(1, 0, BATCH, CONTEXT)
    plain, smooth = task.loss(model, batch), task.loss(model, batch, 0.1)
    logp = model(batch.ids, source=batch.source).log_softmax(-1)[batch.targets != PAD]
    torch.testing.assert_close(smooth, 0.9 * plain - 0.1 * logp.mean(-1).mean())


def test_weights_are_selected_by_the_loss_and_runs_judged_by_bleu(task):
    assert task.watch == LOSS and task.quality.name == "val/bleu"
    assert not task.quality.lower_is_better


def test_a_training_learns_and_stops_where_it_should(task, tmp_path):
    torch.manual_seed(0)
    model = Translator(task.vocab_size)
    recipe = replace(
        training.recipe({"train": TRAIN}),
        **{"steps": 30, "eval_every": 10, "batch_size": BATCH, "context": CONTEXT, "lr": 0.01},
        **{"optimizer": "adamw", "warmup_steps": 0, "label_smoothing": 0.1, "dropout": 0.0},
    )
    progress = Trainer(
        model, task, recipe, seed=3, device="cpu", entry=Entry(tmp_path, "toy")
    ).run()
    assert progress.best < math.log(task.vocab_size) - 1
    assert progress.best == pytest.approx(task.score(model)["loss"], rel=1e-6)


def test_sentences_are_sources_with_all_their_references(task):
    pairs = task.sentences("val", 10**6)
    assert len(pairs) == task.data.splits["val"]["rows"] and pairs[:3] == task.sentences("val", 3)
    for (source, references), (_, target) in zip(pairs, rows(task, "val"), strict=True):
        assert source and task.tokenizer.decode(target) == references[0]


def test_missing_data_name_the_command(tmp_path):
    command = "prepare task=tatoeba pairs=20000 direction=es-en max_tokens=128 tokenizer=bpe_4k"
    with pytest.raises(DataMissing, match=command):
        Tatoeba(tmp_path, direction="es-en")
