"""One step, for the trainer and the bench; parameters by kind in the optimizers."""

import dataclasses

import pytest
import torch

from micro_transformer.bench.training_step import stepper
from micro_transformer.config.sections import Train
from micro_transformer.store.checkpoints import Entry
from micro_transformer.training.optimizers import Optimizers
from micro_transformer.training.step import TrainingStep
from micro_transformer.training.trainer import Trainer
from tests.conftest import tiny_decoder, tiny_dims
from tests.evals.subjects import TRAIN, tiny_subject
from tests.nn.test_parameter_kinds import OfEachKind
from tests.nn.toys import Encoder
from tests.training.test_auxiliary import RECIPE, OneText


def test_the_bench_makes_the_steps_of_the_trainer(tmp_path):
    """With accumulation and dropout: the same weights after three steps."""
    subject = tiny_subject(tmp_path)
    recipe = dataclasses.replace(subject.recipe, accumulate=2, batch_size=3, context=16)
    nets = []

    def new_model():
        torch.manual_seed(5)
        nets.append(tiny_decoder(dropout=0.2, vocab_size=subject.task.vocab_size))
        return nets[-1]

    subject = dataclasses.replace(subject, recipe=recipe, new_model=new_model)
    trainer = Trainer(
        new_model(),
        subject.task,
        recipe,
        seed=subject.seed,
        device="cpu",
        entry=Entry(tmp_path, "a"),
    )
    before = {name: p.clone() for name, p in nets[0].named_parameters()}
    timed = stepper(subject, batch_size=3, context=16)
    for number in range(3):
        trainer._step(number)
        timed()
    trained, timed_net = (dict(net.named_parameters()) for net in nets)
    assert all(torch.equal(p, timed_net[name]) for name, p in trained.items())
    assert not any(torch.equal(p, before[name]) for name, p in trained.items())


def test_another_net_trains_by_the_same_step():
    """An encoder, whose class knows nothing of the trainer."""
    net, task = Encoder(tiny_dims()), OneText()
    task.targets = task.targets % 3
    net.use_checkpointing()
    step = TrainingStep(net, task, dataclasses.replace(RECIPE, lr=0.01), seed=1, device="cpu")
    losses = [step(number)[0]["train/loss"] for number in range(8)]
    assert losses[-1] < losses[0]


BY_MUON = {"matrix", "expert_stack"}
DECAYED = {"matrix", "expert_stack", "router", "adapter"}


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_each_kind_has_its_optimizer_and_decay(optimizer):
    toy = OfEachKind(4)
    recipe = Train(**TRAIN | {"optimizer": optimizer, "weight_decay": 0.1})
    names = {parameter: name for name, parameter in toy.named_parameters()}
    found = {
        names[p]: (member, group["weight_decay"] > 0)
        for member, each in Optimizers(toy, recipe, "cpu").members.items()
        for group in each.param_groups
        for p in group["params"]
    }
    assert found == {
        name: (optimizer if name in BY_MUON else "adamw", name in DECAYED)
        for name in names.values()
    }


def test_frozen_parameters_are_in_no_optimizer():
    toy = OfEachKind(4)
    toy.matrix.requires_grad_(False)
    groups = Optimizers(toy, Train(**TRAIN), "cpu").param_groups
    assert all(p is not toy.matrix for group in groups for p in group["params"])
