"""The gradient of an auxiliary loss does not depend on how a step is carried out."""

import dataclasses
import itertools

import pytest
import torch

from micro_transformer.config.sections import Train
from micro_transformer.data.windows import Windows
from micro_transformer.nn.auxiliary import attach
from micro_transformer.tasks.base import Task
from micro_transformer.tasks.token_prediction import mean_nll
from micro_transformer.training.ranks import Ranks
from micro_transformer.training.step import TrainingStep
from tests.conftest import random_ids, tiny_decoder
from tests.evals.subjects import TRAIN
from tests.nn.toys import Routed

RECIPE = Train(**TRAIN | {"batch_size": 2, "context": 7, "optimizer": "adamw", "clip": None})
SETTINGS = list(itertools.product((1, 4), (1, 2), (False, True), (False, True)))


class OneText(Task):
    """Every row is the same text, so that every mean over rows is the same."""

    def __init__(self):
        self.ids, self.targets = random_ids(1, 7), random_ids(1, 7)

    def train_batch(self, seed, step, batch_size, context, device="cpu"):
        return Windows(self.ids.expand(batch_size, -1), self.targets.expand(batch_size, -1))

    def num_tokens(self, batch):
        return batch.ids.numel()

    def num_scored(self, batch):
        return batch.targets.numel()

    def loss(self, model, batch, label_smoothing=0.0):
        return mean_nll(model(batch.ids), batch.targets)


class Alone(Ranks):
    """A rank whose gradients the test averages."""

    def average_gradients(self, model):
        pass

    def mean(self, value):
        return value


def routed_net():
    """With balances that differ between layers; float64, so that differences are exact."""
    net = tiny_decoder(num_layers=2)
    for block in net.blocks():
        block.ffn = Routed(net.dims)
        for parameter in block.ffn.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    return net.double()


def stepped(net, task, *, accumulate=1, ranks=1, scaler=False):
    """Mean gradient over ranks that the optimizer is given, by name, and the step's loss."""
    found, losses = [], []
    for rank in range(ranks):
        recipe = dataclasses.replace(RECIPE, accumulate=accumulate)
        step = TrainingStep(net, task, recipe, seed=1, device="cpu", ranks=Alone(rank, ranks))
        step.optimizers.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, enabled=scaler)
        step.optimizers.step = lambda: found.append(
            {name: p.grad.clone() for name, p in net.named_parameters()}
        )
        losses.append(step(0)[0]["train/loss"])
    return {name: sum(g[name] for g in found) / ranks for name in found[0]}, sum(losses) / ranks


@pytest.mark.parametrize("accumulate, ranks, scaler, checkpointed", SETTINGS)
def test_a_balance_gradient_is_that_of_its_definition(accumulate, ranks, scaler, checkpointed):
    """Compared with autograd on the balances themselves, and train/loss is the loss without."""
    net, task = routed_net(), OneText()
    found = []
    for block in net.blocks():
        block.ffn.register_forward_hook(lambda ffn, args, out: found.append(ffn.balance(*args)))
    net.train()(task.ids)
    balance = Routed.coefficient * sum(found)
    weights = dict(net.named_parameters())
    grads = torch.autograd.grad(balance, list(weights.values()), allow_unused=True)
    expected = dict(zip(weights, grads, strict=True))
    if checkpointed:
        net.use_checkpointing()
    how = {"accumulate": accumulate, "ranks": ranks, "scaler": scaler}
    whole, loss = stepped(net, task, **how)
    for block in net.blocks():
        block.ffn.coefficient = 0.0
    plain, loss_alone = stepped(net, task, **how)
    assert loss == loss_alone
    for name, gradient in expected.items():
        gradient = torch.zeros_like(weights[name]) if gradient is None else gradient
        torch.testing.assert_close(whole[name] - plain[name], gradient, rtol=1e-6, atol=1e-7)
    routers = [g for name, g in expected.items() if name.endswith("router")]
    assert len(routers) == 2 and all(g.abs().max() > 1e-3 for g in routers)


def test_nothing_is_attached_in_evaluation():
    x, loss = torch.ones(2, requires_grad=True), torch.ones((), requires_grad=True)
    assert attach(x, loss, None) is x
    assert torch.equal(attach(x, loss, torch.tensor(3.0)), x)
