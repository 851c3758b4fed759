"""The trainer: equal seeds give bit-identical weights, also if killed and resumed at any step."""

import dataclasses
import functools
import json
import math

import pytest
import safetensors.torch
import torch

from micro_transformer.build import training
from micro_transformer.config import schema
from micro_transformer.config.resolve import resolve
from micro_transformer.runs.planning import make_plan
from micro_transformer.seeds import stream
from micro_transformer.store.checkpoints import Damaged, Entry, read_snapshot
from micro_transformer.training.optimizers import Optimizers, rate_factor
from micro_transformer.training.trainer import NonFinite, Trainer

STORIES = ["task=micro", "task.stories=300"]
WORDS = ["model=tiny", "train=smoke", "model.d_model=32", "train.threads=1"]


class Stop(BaseException):
    """Stands for a kill."""


@pytest.fixture
def config(micro_data):
    def make(*words):
        task = [] if any(word.startswith("task=") for word in words) else STORIES
        (job,) = make_plan([*task, *WORDS, f"data.dir={micro_data}", *words]).jobs
        return resolve(job.config)

    return make


def train(config, entry, stop_after=None):
    seen = 0

    def check_stop():
        nonlocal seen
        seen += 1
        if seen == stop_after:
            raise Stop

    return make_trainer(config, entry, check_stop=check_stop).run()


def make_trainer(config, entry, **recipe_or_stop):
    """The trainer of a configuration; keywords override recipe knobs unchecked, as fp16 on CPU."""
    task, check_stop = training.build_task(config), recipe_or_stop.pop("check_stop", lambda: None)
    return Trainer(
        training.build_model(config, task),
        task,
        dataclasses.replace(training.recipe(config), **recipe_or_stop),
        seed=config["seed"],
        device="cpu",
        entry=entry,
        check_stop=check_stop,
    )


def curve(progress):
    timeless = ("seconds",)
    return [{k: v for k, v in line.items() if k not in timeless} for line in progress.history]


def weights(entry):
    return read_snapshot(entry.final)["weights.safetensors"]


RECIPES = ["train.optimizer=adamw", "train.optimizer=muon", "train.precision=bf16"]


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("stop_after", [1, 2, 5, 7])
def test_a_stopped_training_goes_on_with_the_same_bits(config, tmp_path, recipe, stop_after):
    cfg = config(recipe)
    whole = train(cfg, Entry(tmp_path, "whole"))
    cut = Entry(tmp_path, "cut")
    with pytest.raises(Stop):
        train(cfg, cut, stop_after)
    resumed = train(cfg, cut)
    assert resumed.resumes == 1
    assert weights(cut) == weights(Entry(tmp_path, "whole"))
    assert curve(resumed) == curve(whole)


def test_a_damaged_state_is_passed_over_for_the_one_before(config, tmp_path, caplog):
    cfg = config()
    train(cfg, Entry(tmp_path, "whole"))
    cut = Entry(tmp_path, "cut")
    with pytest.raises(Stop):
        train(cfg, cut, 5)
    newest = cut.steps()[0]
    path = newest / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    train(cfg, cut)
    assert str(path) in caplog.text
    assert weights(cut) == weights(Entry(tmp_path, "whole"))


def other_tensor(name, change):
    """A corruption of a tensor file: its first tensor is replaced or removed."""

    def harm(files):
        tensors = safetensors.torch.load(files[name])
        first = sorted(tensors)[0]
        files[name] = safetensors.torch.save(change(first, tensors))

    return harm


def drop(first, tensors):
    return {key: tensor for key, tensor in tensors.items() if key != first}


def without_muon(first, tensors):
    return {key: tensor for key, tensor in tensors.items() if not key.startswith("muon.")}


def shrink(first, tensors):
    return tensors | {first: tensors[first].flatten()[:1].repeat(3)}


def spoil(first, tensors):
    return tensors | {first: tensors[first].float() * math.nan}


def rename(first, tensors):
    return drop(first, tensors) | {"strange": tensors[first]}


def state(change):
    def harm(files):
        content = json.loads(files["state.json"])
        change(content)
        files["state.json"] = json.dumps(content).encode()

    return harm


WRONG_STATES = {
    **{f"{change.__name__} {name}": other_tensor(f"{name}.safetensors", change)
       for name in ("weights", "best") for change in (drop, shrink, spoil, rename)},
    **{f"{change.__name__} optimizer": other_tensor("optimizer.safetensors", change)
       for change in (drop, without_muon, shrink, spoil, rename)},
    "no best": lambda files: files.pop("best.safetensors"),
    "endless": state(lambda s: s["progress"].update(train_seconds=math.inf)),
    "no optimizer": lambda files: files.pop("optimizer.safetensors"),
    "step beyond": state(lambda s: s["progress"].update(step=10**6)),
    "stray": state(lambda s: s["progress"].update(stray=1)),
    "no scaler": state(lambda s: s.pop("scaler")),
}  # fmt: skip


@pytest.mark.parametrize("harm", WRONG_STATES)
def test_a_state_of_another_net_is_passed_over_though_its_hashes_fit(config, tmp_path, harm):
    cfg, cut = config(), Entry(tmp_path, "cut")
    with pytest.raises(Stop):
        train(cfg, cut, 5)
    newest, *_ = cut.steps()
    files = cut.read_step(newest)
    task = training.build_task(cfg)
    model, recipe = training.build_model(cfg, task), training.recipe(cfg)
    trainer = Trainer(model, task, recipe, seed=1, device="cpu", entry=cut)
    fresh = {key: tensor.clone() for key, tensor in trainer.model.state_dict().items()}
    WRONG_STATES[harm](files)
    with pytest.raises(Damaged):
        trainer._load(files)
    assert trainer.progress.step == 0 and not trainer.best_weights
    assert all(torch.equal(t, fresh[key]) for key, t in trainer.model.state_dict().items())
    assert not any(member.state for member in trainer.optimizers.members.values())


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
    once, however these are spread; what the net adds to its loss is added once."""
    cfg = config(*words, "train.accumulate=3", "train.dropout=0", "train.clip=1e9")
    trainer = make_trainer(cfg, Entry(tmp_path, "a"))
    model, task, size = trainer.model, trainer.task, cfg["train"]["batch_size"]
    ffn = model.blocks()[0].ffn
    ffn.auxiliary_loss = lambda: 3 * ffn.up.weight.square().mean()
    draw = functools.partial(task.train_batch, stream(cfg["seed"], "data"))
    parts = [draw(part, size, cfg["train"]["context"]) for part in range(3)]
    counts = [task.num_scored(part) for part in parts]
    assert (len(set(counts)) > 1) == bool(words)
    whole = sum(task.loss(model, part) * n for part, n in zip(parts, counts, strict=True))
    loss = whole / sum(counts) + ffn.auxiliary_loss()
    grads = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)
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
    import safetensors.torch

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
    scale = trainer.optimizers.scaler.get_scale()
    line = trainer._step(1)
    assert all(torch.equal(v, before[k]) for k, v in trainer.model.state_dict().items())
    assert trainer.optimizers.scaler.get_scale() < scale
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
