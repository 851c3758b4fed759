"""Fine-tuning, trained: the base once, then from its weights, whatever is stopped."""

import json

import pytest
import torch

from micro_transformer.records import record_files
from tests.runs.extending import SHORT, Stop, curve, final


@pytest.mark.parametrize("stops", [{"base_stop": 3}, {"base_stop": 8}, {"stop": 1}, {"stop": 3}])
def test_a_stop_in_either_part_changes_no_bit(train, tmp_path, stops):
    whole = train(tmp_path / "whole")
    with pytest.raises(Stop):
        train(tmp_path / "cut", **stops)
    resumed = train(tmp_path / "cut")
    for one, other in ((whole, resumed), (whole.base, resumed.base)):
        assert final(one)[0] == final(other)[0]
        assert curve(final(one)[1]) == curve(final(other)[1])
    spent = final(whole)[1]["cost"]
    assert spent.keys() == final(resumed)[1]["cost"].keys()
    base = final(resumed.base)[1]["cost"]
    assert {f"base/{k}": v for k, v in base.items()}.items() <= final(resumed)[1]["cost"].items()


def test_a_fine_tuning_changes_weights_from_those_of_its_base_on(train, tmp_path):
    """A step with a tiny learning rate keeps the base's weights; four real ones, under another
    scaling, give others."""
    still = train(tmp_path, "train.lr=1e-12", "train.matrix_lr=1e-12")
    linear, yarn = (train(tmp_path, f"train.scaling={name}") for name in ("linear", "yarn"))
    base = final(linear.base)[0]
    assert close(final(still)[0], base)
    assert not close(final(linear)[0], base) and not close(final(linear)[0], final(yarn)[0])
    assert linear.base.entry.folder == yarn.base.entry.folder == still.base.entry.folder


def close(one, other):
    import safetensors.torch

    a, b = safetensors.torch.load(one), safetensors.torch.load(other)
    return all(torch.allclose(a[name], b[name], rtol=0, atol=1e-6) for name in a)


# --- by the command ---


def stored(lab):
    return {folder.name for folder in (lab.folder / "checkpoints").iterdir()}


def test_two_extensions_and_the_base_itself_train_three_nets(lab):
    words = [*SHORT, "train.scaling=linear,yarn", "run.sweep=two", "-m"]
    assert "trainings  3: 0 stored, 3 to train" in lab(*words, "run.plan=true").stdout
    done = lab(*words)
    assert done.returncode == 0, done.stderr
    assert "trainings  2: 2 stored, 0 to train" in lab(*words, "run.plan=true").stdout
    trained = stored(lab)
    assert len(trained) == 3
    assert lab("train=smoke", "hydra.run.dir=plain").returncode == 0 and stored(lab) == trained
    (plain,) = record_files.load_records(lab.folder / "plain").records
    found = record_files.load_records(lab.folder / "multirun").records
    assert sorted("base" in r.phases for r in found) == [False, True]
    assert "train" not in plain.phases
    for record in found:
        assert record.status == "ok" and record.config["origin"]["train"]["steps"] == 8
        for name in ("seconds", "ms_per_step", "tokens_per_s", "peak_rss_gb"):
            assert record.cost[f"base/train/{name}"] == plain.cost[f"train/{name}"]
            assert record.cost[f"train/{name}"] > 0
        history = record_files.read_history(record.path)
        assert [line["step"] for line in history] == [1, 2, 3, 4]
        # measured under the scaling that it was trained under
        assert record.metrics["val/loss"] == pytest.approx(history[-1]["val/loss"], rel=1e-5)
    scored = lab(
        f"checkpoints/{record.fingerprints['train']}", "--json", "--data", lab.data,
        module="micro_transformer.evaluate",
    )  # fmt: skip
    loss = json.loads(scored.stdout)["val/loss"]
    assert loss == pytest.approx(record.metrics["val/loss"], rel=1e-6)
