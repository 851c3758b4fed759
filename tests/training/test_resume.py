"""A training that was stopped goes on with the same bits, from a state that fits."""

import json
import math

import pytest
import safetensors.torch
import torch

from micro_transformer.build import training
from micro_transformer.store.checkpoints import Damaged, Entry
from micro_transformer.training.trainer import Trainer
from tests.training.trained import Stop, curve, train, weights

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
    assert not any(member.state for member in trainer.training_step.optimizers.members.values())
