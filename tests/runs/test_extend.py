"""Fine-tuning from a base recipe: the base is trained once, RoPE scaling and fingerprint fit."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from micro_transformer.build import measuring, training
from micro_transformer.commands import store
from micro_transformer.config import choices, schema
from micro_transformer.config.components import make
from micro_transformer.config.overrides import BadConfig
from micro_transformer.config.resolve import resolve
from micro_transformer.data.configured import data_digest
from micro_transformer.records import record_files
from micro_transformer.runs import forecast, worker
from micro_transformer.runs.planning import make_plan
from micro_transformer.store import trainings
from micro_transformer.store.checkpoints import Entry, read_snapshot
from micro_transformer.store.fingerprints import fingerprints
from tests.conftest import facts, members

ROOT = Path(__file__).resolve().parents[2]
SCALINGS = members("scaling")
EXTEND = ["base=long", "train=extend"]
# Eight steps at 32 tokens, then four at 64.
SHORT = ["base=long", "base.train=smoke", "train=extend", "train.steps=4", "train.context=64"]
SHORT += ["train.warmup_steps=1", "train.eval_every=4", "train.checkpoint_every=2"]
TINY = ["task=micro", "task.stories=300", "model=tiny", "model.d_model=32", "train.threads=1"]


def config_of(*words):
    (job,) = make_plan(words).jobs
    return resolve(job.config)


def training_of(*words):
    config = config_of(*words)
    return trainings.of(config, fingerprints(config, "0123456789ab"))


@pytest.fixture
def conf(tmp_path, monkeypatch):
    """A copy of conf/ that a test may add choices to."""
    monkeypatch.setattr(choices, "CONF", Path(shutil.copytree(choices.CONF, tmp_path / "conf")))
    return tmp_path / "conf"


# --- what is meant ---


@pytest.mark.parametrize("scaling", SCALINGS)
def test_a_net_reads_under_the_scaling_that_its_texts_have_grown_by(scaling):
    """The factor is 2048 / 512 whatever the yaml says; original_len is the base's context."""
    config = config_of(*EXTEND, f"train.scaling={scaling}", "model=tiny", "device=cpu")
    knobs = schema.read_choice("scaling", scaling)
    expected = make("scaling", knobs | ({"factor": 4.0} if "factor" in knobs else {}))
    net = training.build_model(config, SimpleNamespace(vocab_size=20))
    for length in (300, 2048, 8192):
        inv_freq, scale = expected(net.posenc.inv_freq, original_len=512, target_len=length)
        for _ in range(2):  # as trained, and as measured
            found = net.posenc.frequencies(length)
            assert torch.equal(found[0], inv_freq) and found[1] == scale
            measuring.stretch(net, config)


def test_a_net_that_was_not_stretched_is_read_from_the_length_it_was_trained_on_last():
    words = [*EXTEND, "train.scaling=none", "scaling=dynamic_ntk", "model=tiny"]
    net = training.build_model(config_of(*words, "device=cpu"), SimpleNamespace(vocab_size=20))
    measuring.stretch(net, config_of(*words))
    assert torch.equal(net.posenc.frequencies(2048)[0], net.posenc.inv_freq)
    assert not torch.equal(net.posenc.frequencies(2049)[0], net.posenc.inv_freq)


BASES = [c for c in schema.choices_of("train") if c != "extend"]


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize(
    "words",
    [[], ["train.threads=1", "train.precision=fp32"], ["posenc=alibi", "base.seed=7", "seed=8"]],
)
def test_the_base_is_the_training_that_its_own_recipe_names(base, words):
    """Where it says auto, the base is trained as the recipe that asks for it."""
    recipe = schema.read_choice("train", base)
    fixed = {w for w in words for k in recipe if w.startswith(f"train.{k}") and recipe[k] != "auto"}
    alone = [w.removeprefix("base.") for w in words if not w.startswith("seed=")]
    own = training_of(f"train={base}", *(w for w in alone if w not in fixed))
    for scaling in ("none", "linear"):
        if scaling == "none" or not any("alibi" in word for word in words):
            asked = [*EXTEND, f"base.train={base}", f"train.scaling={scaling}"]
            extended = training_of(*asked, *words)
            assert extended.base.factors == own.factors and own.base is None
            assert extended.base.entry.folder == own.entry.folder != extended.entry.folder


def test_all_seeds_share_one_base_and_another_seed_of_the_base_is_another_net():
    one, two = training_of(*EXTEND, "seed=1"), training_of(*EXTEND, "seed=2")
    assert one.base.entry.folder == two.base.entry.folder and one.factors != two.factors
    other = training_of(*EXTEND, "seed=1", "base.seed=7")
    assert other.base.entry.folder != one.base.entry.folder and other.factors != one.factors


def test_a_base_may_start_from_a_base(conf):
    """Its origin has an origin; the net keeps the one scaling under which it was fine-tuned."""
    (conf / "base/extended.yaml").write_text("seed: 1\ntrain: extend\nbase: long\n")
    third = training_of("base=extended", "train=extend", "train.scaling=none", "device=cpu")
    second = training_of(*EXTEND, "seed=1", "device=cpu")
    assert third.base.factors == second.factors
    assert third.base.base.factors == second.base.factors and third.base.base.base is None
    nets = [training.build_model(t.config, SimpleNamespace(vocab_size=20)) for t in (second, third)]
    one, other = (net.posenc.frequencies(4096)[0] for net in nets)
    assert torch.equal(one, other) and not torch.equal(one, nets[0].posenc.inv_freq)
    with pytest.raises(BadConfig, match="was fine-tuned under train.scaling=linear itself"):
        training_of("base=extended", "train=extend", "train.context=4096")


# --- identity ---


def test_the_bases_recipe_and_code_are_part_of_what_a_training_is(conf, tmp_path, capsys):
    before = training_of(*EXTEND)
    (conf / "train/other.yaml").write_text("defaults: [long]\nlr: 7.0e-3\nkernel: blockwise\n")
    after = training_of(*EXTEND, "base.train=other")
    for planned in (before, after):
        Entry(tmp_path, planned.entry.fingerprint).open(planned.factors)
    names = [planned.entry.fingerprint for planned in (after, before)]
    assert store.main(["--dir", str(tmp_path), "explain", *names]) == 0
    said = capsys.readouterr().out
    assert "config origin.train.lr: 0.007 | 0.008" in said
    assert "code micro_transformer.nn.kernels.blockwise: only the first uses" in said


@pytest.mark.parametrize("scaling", SCALINGS)
def test_only_the_scaling_of_the_fine_tuning_is_part_of_a_training(scaling):
    code = training_of(*EXTEND, f"train.scaling={scaling}").factors["code"]
    used = {name.rsplit(".", 1)[1] for name in code if ".nn.scaling." in name}
    assert used == {"base", "none", scaling}
    assert training_of("train=quick", f"scaling={scaling}").factors == training_of().factors


# --- senseless ---

MISFITS = {
    "train.context=512": "train.context=512: not longer than the 512 tokens of base.train=long",
    "posenc=alibi": "train.scaling=linear: stretches rotary positions, and posenc kind ALiBi",
    "scaling=yarn": "scaling kind YaRN: a net fine-tuned under train.scaling=linear is read",
    "base=none": "train.scaling=linear: stretches a trained net; choose one, such as base=long",
    "base=longer": "base=longer: must be one of",
    "base.train=longer": "base.train=longer: must be one of",
    "base=loop": "base.base=loop.base=loop: starts from its own weights",
    "train.base=long": "train.base: is a group now; remove it and choose base=long",
    "train.scaling=pi": "train.scaling=pi: must be one of",
}


@pytest.mark.parametrize("word", MISFITS)
def test_what_contradicts_the_fine_tuning_is_one_line(word, conf):
    (conf / "base/loop.yaml").write_text("seed: 1\ntrain: long\nbase: loop\n")
    with pytest.raises(BadConfig) as caught:
        make_plan([*EXTEND, word])
    (line,) = caught.value.lines
    assert line.startswith(MISFITS[word]) and len(line) < 200


@pytest.mark.parametrize("scaling", SCALINGS)
def test_a_head_too_narrow_for_the_scaling_is_told(scaling):
    narrow = [*EXTEND, f"train.scaling={scaling}", "model.d_model=8", "run.sweep=x"]
    plan = make_plan([*narrow, "model.num_heads=2,4", "-m"])
    rules = [forecast.compatibility.conflicts(job.config) for job in plan.jobs]
    assert bool(rules[1]) == bool(facts("scaling", scaling).get("divides_by_width_less_two"))
    assert not rules[0]


def test_a_recipe_at_the_same_length_is_a_control_without_a_scaling():
    assert config_of(*EXTEND, "train.scaling=none", "train.context=512")


# --- trained ---


class Stop(BaseException):
    """Stands for a kill."""


@pytest.fixture
def train(micro_data, monkeypatch):
    """Trains the overrides' recipe as a job would, stopped at a step of the base or later."""
    monkeypatch.setattr(worker, "make_deterministic", lambda threads: None)

    def run(store, *words, base_stop=None, stop=None):
        config = config_of(*TINY, *SHORT, *words, f"data.dir={micro_data}", f"store.dir={store}")
        training = trainings.of(config, fingerprints(config, data_digest(config)))
        for part, last in ((training.base, base_stop), (training, stop)):
            monkeypatch.setattr(worker, "StopRequest", lambda last=last: _Stopping(last))
            worker.train(*part.work)
        return training

    return run


class _Stopping:
    """A request to stop after N steps."""

    number = None

    def __init__(self, last):
        self.last, self.seen = last, 0

    def install(self):
        return self

    def check(self):
        self.seen += 1
        if self.seen == self.last:
            raise Stop


def final(training):
    files = read_snapshot(training.entry.final)
    return files["weights.safetensors"], json.loads(files["state.json"])["progress"]


def curve(progress):
    return [{k: v for k, v in line.items() if k != "seconds"} for line in progress["history"]]


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


@pytest.fixture
def lab(tmp_path, micro_data):
    def run(*words, module="run.py"):
        start = [str(ROOT / "run.py"), *TINY, f"data.dir={micro_data}", "bench=none"]
        command = [sys.executable, *(start if module == "run.py" else ["-m", module]), *words]
        env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        return subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)

    run.folder = tmp_path
    run.data = str(micro_data)
    return run


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
