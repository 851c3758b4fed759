"""The trainer: equal seeds give bit-identical curves, and a step is that of all its targets."""

import functools
import json
import math

import pytest
import safetensors.torch
import torch

from micro_transformer.build import training
from micro_transformer.config import schema
from micro_transformer.config.resolve import resolve
from micro_transformer.nn.auxiliary import attach
from micro_transformer.runs.planning import make_plan
from micro_transformer.seeds import stream
from micro_transformer.store.checkpoints import Entry, read_snapshot
from micro_transformer.training.optimizers import Optimizers, rate_factor
from micro_transformer.training.trainer import NonFinite
from tests.training.trained import curve, make_trainer, train, weights


def test_same_seed_same_curve_and_another_seed_another(config, tmp_path):
    one, same, other = (
        curve(train(config(f"seed={seed}"), Entry(tmp_path, name)))
        for seed, name in ((1, "a"), (1, "b"), (2, "c"))
    )
    assert one == same
    assert one != other


@pytest.mark.parametrize("word", ["train.eval_every=1", "train.checkpoint_every=1"])
def test_looking_does_not_change_what_is_trained(config, tmp_path, word):
    plain = curve(train(config("train.eval_every=8"), Entry(tmp_path, "a")))
    looked = curve(train(config("train.eval_every=8", word), Entry(tmp_path, "b")))
    assert [line["train/loss"] for line in plain] == [line["train/loss"] for line in looked]


UNEVEN = ["task=recall", "task.pairs=4", "task.spare=4", "task.start=16", "task.grow_every=1"]
UNEVEN += ["task.window=64", "task.sequences=2", "train.context=64", "train.batch_size=1"]


@pytest.mark.parametrize("words", [[], UNEVEN])
def test_accumulated_parts_make_one_step_of_all_their_targets(config, tmp_path, words):
    """Loss and gradient of the first step are those over the targets of its three micro-batches at
    once, however these are spread; an auxiliary loss counts once, and not in train/loss."""
    cfg = config(*words, "train.accumulate=3", "train.dropout=0", "train.clip=1e9")
    trainer = make_trainer(cfg, Entry(tmp_path, "a"))
    model, task, size = trainer.model, trainer.task, cfg["train"]["batch_size"]
    ffn = model.blocks()[0].ffn

    def auxiliary():
        return 3 * ffn.up.weight.square().mean()

    ffn.residual = lambda x, context, index: attach(ffn(x), auxiliary(), context.aux_scale)
    draw = functools.partial(task.train_batch, stream(cfg["seed"], "data"))
    parts = [draw(part, size, cfg["train"]["context"]) for part in range(3)]
    counts = [int(task.num_scored(part)) for part in parts]
    assert (len(set(counts)) > 1) == bool(words)
    whole = sum(task.loss(model, part) * n for part, n in zip(parts, counts, strict=True))
    loss = whole / sum(counts)
    grads = torch.autograd.grad(loss + auxiliary(), list(model.parameters()), allow_unused=True)
    norm = torch.cat([g.flatten() for g in grads if g is not None]).norm()
    first = trainer._step(0)
    assert first["train/loss"] == pytest.approx(loss.item(), rel=1e-5)
    assert first["grad_norm"] == pytest.approx(norm.item(), rel=1e-4)


def test_the_best_weights_are_restored_and_patience_is_kept(config, tmp_path):
    cfg = config(
        "train.optimizer=adamw",
        "train.lr=3",
        "train.eval_every=1",
        "train.patience=2",
        "train.clip=null",
    )
    entry = Entry(tmp_path, "a")
    progress = train(cfg, entry)
    assert progress.stopped_early and progress.step == progress.best_step + 2
    task = training.build_task(cfg)
    model = training.build_model(cfg, task)

    model.load_state_dict(safetensors.torch.load(weights(entry)))
    assert task.score(model, "val")["loss"] == pytest.approx(progress.best, rel=1e-6)


def test_a_loss_that_is_no_number_ends_the_training_by_name(config, tmp_path):
    cfg = config("train.lr=1e30", "train.clip=null", "train.optimizer=adamw", "train.steps=50")
    with pytest.raises(NonFinite, match="at step"):
        train(cfg, Entry(tmp_path, "a"))
    assert NonFinite.status == "nan"


def change_gradient(model, name, value):
    """From now on one element of that weight's gradient has this value."""
    weight = dict(model.named_parameters())[name]
    first = (torch.tensor(0),) * weight.ndim
    weight.register_hook(lambda grad: grad.index_put(first, torch.tensor(value)))


@pytest.mark.parametrize("clip", [1.0, None])
@pytest.mark.parametrize("weight", ["stack.blocks.0.ffn.up.weight", "embedding.weight"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_in_fp16_a_gradient_that_overflows_skips_the_step_of_every_weight(
    config, tmp_path, clip, weight, value
):
    """For weights of Muon and AdamW; the loss scale decreases and the history's norm is null."""
    trainer = make_trainer(
        config("train.dropout=0"), Entry(tmp_path, "a"), precision="fp16", clip=clip
    )
    trainer._step(0)
    change_gradient(trainer.model, weight, value)
    before = {k: v.clone() for k, v in trainer.model.state_dict().items()}
    scale = trainer.training_step.optimizers.scaler.get_scale()
    line = trainer._step(1)
    assert all(torch.equal(v, before[k]) for k, v in trainer.model.state_dict().items())
    assert trainer.training_step.optimizers.scaler.get_scale() < scale
    assert line["grad_norm"] is None


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e30])  # the square of the last overflows
def test_a_gradient_without_a_norm_ends_the_training_by_name(config, tmp_path, value):
    trainer = make_trainer(config(), Entry(tmp_path, "a"))
    change_gradient(trainer.model, "head.weight", value)
    with pytest.raises(NonFinite, match="grad_norm is (inf|nan) at step 1"):
        trainer.run()


def test_what_is_stored_is_json_also_where_a_figure_is_infinite(config, tmp_path, monkeypatch):
    """Before the first evaluation there is no best loss, and a perplexity can overflow a float."""
    entry = Entry(tmp_path, "a")
    trainer = make_trainer(config("train.checkpoint_every=1"), entry)
    score = trainer.task.score
    monkeypatch.setattr(trainer.task, "score", lambda *a: score(*a) | {"ppl": math.inf})
    states = []
    monkeypatch.setattr(entry, "write_step", lambda step, files: states.append(files["state.json"]))
    progress = trainer.run()
    for state in (*states, read_snapshot(entry.final)["state.json"]):
        json.loads(state, parse_constant=pytest.fail)
    assert progress.history[-1]["val/ppl"] is None


def test_label_smoothing_is_for_training_alone(config, tmp_path):
    cfg = config("train.label_smoothing=0.3", "train.dropout=0")
    task = training.build_task(cfg)
    model = training.build_model(cfg, task)
    batch = task.train_batch(1, 0, 4, 32)
    plain, smooth = task.loss(model, batch), task.loss(model, batch, 0.3)
    assert plain != smooth
    flat = torch.zeros(4, 32, task.vocab_size)
    assert task.loss(lambda ids: flat, batch).item() == pytest.approx(math.log(task.vocab_size))


RECIPE_FILES = schema.choices_of("train")


@pytest.mark.parametrize("name", RECIPE_FILES)
def test_the_rate_warms_up_from_above_zero_and_decays(name):
    (job,) = make_plan(["base=long", f"train={name}", "train.scaling=none"]).jobs
    recipe = training.recipe(resolve(job.config))
    rates = [rate_factor(step, recipe) for step in range(recipe.steps + 5)]
    assert rates[0] > 0 and max(rates) == 1
    assert rates[recipe.warmup_steps :] == sorted(rates[recipe.warmup_steps :], reverse=True)
    assert rates[recipe.steps] == rates[-1] == pytest.approx(recipe.min_lr_ratio)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_every_weight_is_stepped_once_and_only_matrices_decay(config, optimizer):
    cfg = config(f"train.optimizer={optimizer}", "train.weight_decay=0.5", "model.bias=true")
    model = training.build_model(cfg, training.build_task(cfg))
    members = Optimizers(model, training.recipe(cfg), "cpu").members
    groups = [group for member in members.values() for group in member.param_groups]
    stepped = [id(p) for group in groups for p in group["params"]]
    assert sorted(stepped) == sorted(id(p) for p in model.parameters())
    tables = {id(model.embedding.weight), id(model.head.weight)}
    for group in groups:
        for p in group["params"]:
            assert (group["weight_decay"] > 0) == (p.ndim == 2 and id(p) not in tables)
    assert ("muon" in members) == (optimizer == "muon")
