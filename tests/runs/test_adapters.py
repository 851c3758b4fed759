"""Adapters, trained: only what they train is stored, and it is nothing without its base."""

import json
import shutil
import subprocess
import sys

import pytest
import safetensors.torch
import torch

from micro_transformer.build import training
from micro_transformer.commands import store as store_command
from micro_transformer.config import components, schema
from micro_transformer.config.overrides import BadConfig
from micro_transformer.records import record_files
from micro_transformer.runs import trained_net, worker
from micro_transformer.runs.planning import make_plan
from micro_transformer.store.checkpoints import Damaged, Entry
from micro_transformer.training import step
from tests.conftest import members
from tests.runs.extending import (
    EXTEND,
    ROOT,
    SHORT,
    TINY,
    Stop,
    config_of,
    curve,
    final,
    training_of,
)

ADAPTERS = [name for name in members("adapter") if name != "none"]
ADDING = [name for name in ADAPTERS if name != "head_only"]
FEW = ["adapter.num_tokens=4"]  # of 64 tokens


def words_of(name):
    return [f"adapter={name}", *(FEW if "prompt" in name else [])]


def load(trained):
    config = trained.config
    return trained_net.load(config, trained.entry, training.build_task(config))[0].net


# --- what is stored ---


@pytest.mark.parametrize("name", ADAPTERS)
def test_a_stop_changes_no_bit_and_only_what_is_trained_is_stored(train, tmp_path, name):
    how = [*words_of(name), "train.weight_decay=0.1"]
    whole = train(tmp_path / "whole", *how)
    with pytest.raises(Stop):
        train(tmp_path / "cut", *how, stop=3)
    resumed = train(tmp_path / "cut", *how)
    assert final(whole)[0] == final(resumed)[0]
    assert curve(final(whole)[1]) == curve(final(resumed)[1]) and final(resumed)[1]["resumes"] == 1
    own, base = (safetensors.torch.load(final(t)[0]) for t in (whole, whole.base))
    net = load(whole)
    asked = {n for n, p in net.named_parameters() if p.requires_grad}
    assert own.keys() == asked and len(final(whole)[0]) < 0.6 * len(final(whole.base)[0])
    found = net.state_dict()
    frozen = [n for n in base if n not in asked and n in found]
    for key in frozen:  # a merged weight is saved as the base's, to rounding
        torch.testing.assert_close(found[key], base[key], rtol=0, atol=1e-6)
    assert name == "bottleneck" or len(frozen) == len(base) - (name == "head_only")
    assert all(torch.equal(found[key], own[key]) for key in own)


def test_full_fine_tuning_stores_the_whole_net(train, tmp_path):
    whole = train(tmp_path)
    assert final(whole)[1]["base"] is None
    shutil.rmtree(whole.base.entry.folder)
    assert load(whole)


def test_all_adapters_share_the_base_of_full_fine_tuning():
    one = training_of(*EXTEND)
    for name in ADAPTERS:
        other = training_of(*EXTEND, f"adapter={name}")
        assert other.base.entry.folder == one.base.entry.folder
        assert other.entry.folder != one.entry.folder


@pytest.mark.parametrize("name", ADAPTERS)
def test_the_seed_draws_the_adapter(name, micro_data):
    def start(seed):
        config = config_of(*TINY, *SHORT, *words_of(name), f"seed={seed}", f"data.dir={micro_data}")
        task = training.build_task(config)
        return training.adapted(training.build_model(config, task), config).trained_state()

    one, same, other = start(1), start(1), start(2)
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert not all(torch.equal(one[key], other[key]) for key in one)


# --- the base ---


def test_a_missing_or_changed_base_is_one_line(train, tmp_path):
    trained = train(tmp_path, "adapter=lora")
    base, aside = trained.base.entry.folder, tmp_path / "aside"
    base.rename(aside)
    with pytest.raises(Damaged) as caught:
        load(trained)
    assert str(caught.value).startswith(
        f"{trained.entry.folder}: has an adapter alone and needs its base, training {base.name}: "
    )
    assert str(caught.value).endswith("run its job again, which trains the base")
    assert "\n" not in str(caught.value)
    other = train(tmp_path / "other", "adapter=lora", "base.seed=7").base.entry
    files = other.read()
    Entry(tmp_path, base.name).open(trained.base.factors)
    Entry(tmp_path, base.name).finish(files)
    with pytest.raises(Damaged, match=f"adapts other weights than its base, training {base.name}"):
        load(trained)


def test_an_adapter_of_another_net_is_refused(train, tmp_path):
    lora, bottleneck = (train(tmp_path, f"adapter={name}") for name in ("lora", "bottleneck"))
    files = bottleneck.entry.read()
    lora.entry.finish(files)
    with pytest.raises(Damaged, match=r"weights.safetensors: stack.blocks.0\S+ is missing"):
        load(lora)


def test_a_snapshot_on_other_weights_of_the_base_is_not_resumed(train, tmp_path, caplog):
    with pytest.raises(Stop):
        train(tmp_path, "adapter=lora", stop=3)
    (entry,) = [Entry(tmp_path, p.name) for p in tmp_path.iterdir() if (p / "steps").is_dir()]
    files = entry.read_step(entry.steps()[0])
    state = json.loads(files["state.json"])
    state["progress"]["base"]["weights"] = "0" * 64
    entry.write_step(2, files | {"state.json": json.dumps(state).encode()})
    train(tmp_path, "adapter=lora")
    assert "the state is of another net or recipe; resuming" in caplog.text


def test_prune_keeps_a_base_as_long_as_its_adapter(train, tmp_path, capsys):
    trained = train(tmp_path, "adapter=lora")
    names = [trained.base.entry.fingerprint, trained.entry.fingerprint]
    where = ["--dir", str(tmp_path), "prune"]
    assert store_command.main([*where, names[0], "--yes"]) == 0
    assert f"{names[1]} starts from its weights" in capsys.readouterr().out
    assert store_command.main(["--dir", str(tmp_path), "list"]) == 0
    assert "adapter=lora" in capsys.readouterr().out
    assert store_command.main([*where, *names, "--yes"]) == 0
    assert not (tmp_path / names[0]).exists()


# --- by the command ---


def test_a_job_records_what_is_trained_and_heals_a_lost_base(lab):
    words = [*SHORT, "adapter=lora", "eval=score", "hydra.run.dir=one"]
    done = lab(*words)
    assert done.returncode == 0, done.stderr + done.stdout
    (record,) = record_files.load_records(lab.folder / "one").records
    size = record.size
    assert 0 < size["trainable"] < size["params"]
    assert size["trainable_share"] == pytest.approx(size["trainable"] / size["params"])
    assert record.cost["train/ms_per_step"] > 0 and record.cost["train/peak_rss_gb"] > 0
    name = record.fingerprints["train"]
    own = lab.folder / "checkpoints" / name / "final/weights.safetensors"
    state = json.loads((own.parent / "state.json").read_text())["progress"]
    base = lab.folder / "checkpoints" / state["base"]["training"]
    assert own.stat().st_size < 60_000 and base.is_dir()
    before = own.read_bytes()
    shutil.rmtree(base)
    scored = lab(f"checkpoints/{name}", "--data", lab.data, module="micro_transformer.evaluate")
    assert scored.returncode == 3 and len(scored.stderr.strip().splitlines()) == 1
    assert "needs its base" in scored.stderr
    again = lab(*words, "run.force=true")
    assert again.returncode == 0 and base.is_dir() and own.read_bytes() == before
    (healed,) = record_files.load_records(lab.folder / "one").records
    assert healed.metrics == record.metrics and "base" in healed.phases
    assert "train" not in healed.phases
    scored = lab(
        f"checkpoints/{name}", "--json", "--data", lab.data, module="micro_transformer.evaluate"
    )
    loss = json.loads(scored.stdout)["val/loss"]
    assert loss == pytest.approx(record.metrics["val/loss"], rel=1e-6)
    assert loss == pytest.approx(state["history"][-1]["val/loss"], rel=1e-4)  # merged


def test_the_benches_step_is_that_of_the_adapted_net(train, tmp_path, monkeypatch):
    trained, seen = train(tmp_path, "adapter=lora"), []

    class Counted(step.TrainingStep):
        def __call__(self, number):
            found = super().__call__(number)
            seen.append({n for n, p in self.model.named_parameters() if p.requires_grad})
            return found

    monkeypatch.setattr(step, "TrainingStep", Counted)
    bench = {"kind": "TrainingStep", "batch_size": 2, "context": 16, "steps": 2, "warmup": 1}
    config = trained.config | {"bench": {"threads": 1, "measures": {"step": bench}}}
    found = worker.measure(config, trained.entry, tmp_path, ["bench"])
    assert found.cost["train/ms_per_batch"] > 0
    own = set(load(trained).trained_state())
    assert seen == [own] * len(seen) and seen


def test_the_folder_of_a_job_names_its_adapter():
    (plain,), (lora,) = (make_plan([*EXTEND, *w]).jobs for w in ([], ["adapter=lora"]))
    assert "lora" in lora.folder.name and "none" not in plain.folder.name


# --- what contradicts it ---

MISFITS = {
    "adapter=lora base=none": "adapter kind LoRA: adapts a trained net; choose one, such as",
    "adapter=soft_prompt base=none": "adapter kind SoftPrompt: adapts a trained net",
    "adapter=lora adapter.rank=0": "adapter.rank=0: must be in [1, 2^63)",
    "adapter=lora adapter.rank=129": "adapter.rank=129: above 128, the width of the smallest",
    "adapter=lora adapter.rank=65 model.num_kv_heads=2": "adapter.rank=65: above 64, the width",
    "adapter=lora adapter.targets=[]": "adapter.targets=[]: must name q, k, v or out, each once",
    "adapter=lora adapter.targets=[q,q]": "adapter.targets=['q', 'q']: must name q, k, v or out",
    "adapter=lora adapter.targets=[w]": "adapter.targets=['w']: must be one of q, k, v, out",
    "adapter=bottleneck adapter.width=0": "adapter.width=0: must be in [1, 2^63)",
    "adapter=bottleneck adapter.width=129": "adapter.width=129: a bottleneck is at most as wide",
    "adapter=soft_prompt adapter.num_tokens=0": "adapter.num_tokens=0: must be in [1, 2^63)",
    "adapter=soft_prompt adapter.num_tokens=2049": "adapter.num_tokens=2049: a prompt longer than",
    "adapter=lora_soft_prompt adapter.num_tokens=2049": "adapter.num_tokens=2049: a prompt longer",
    "adapter=soft_prompt posenc=learned train.scaling=none model.max_len=2050 eval=none bench=none":
        "adapter.num_tokens=32: with train.context=2048 it passes the table of posenc kind Learned",
    "adapter=lor": "adapter=lor",
}  # fmt: skip


@pytest.mark.parametrize("words", MISFITS)
def test_what_contradicts_an_adapter_is_one_line(words):
    asked = [*EXTEND, *words.split()]
    if "base=none" in asked:
        asked += ["train=quick"]
    with pytest.raises(BadConfig) as caught:
        make_plan(asked)
    (line,) = caught.value.lines
    assert line.startswith(MISFITS[words]) and len(line) < 200


@pytest.mark.parametrize("name", ["none", "head_only"])
def test_controls_without_a_base_are_valid_and_stored_whole(name, micro_data, tmp_path):
    """From scratch; and a head on frozen random features, drawn otherwise elsewhere."""
    words = [*TINY, "train=smoke", "base=none", f"adapter={name}"]
    words += ["train.steps=3", "train.warmup_steps=1", "train.eval_every=3"]
    config = config_of(*words, f"data.dir={micro_data}", f"store.dir={tmp_path}")
    trained = training_of_config(config)
    worker.train(*trained.work)
    task = training.build_task(config)
    before = training.build_model(config, task).state_dict()
    after = safetensors.torch.load(final(trained)[0])
    assert after.keys() == before.keys()
    same = {key for key in before if torch.equal(before[key], after[key])}
    assert same == (set(before) - {"head.weight"} if name == "head_only" else set())
    assert trained_net.load(config, trained.entry, task)[0].base is None


def training_of_config(config):
    from micro_transformer.store import trainings
    from micro_transformer.store.fingerprints import fingerprints

    return trainings.of(config, fingerprints(config, "0123456789ab"))


# --- every knob ---


def other_values(knob, value, annotation):
    candidates = {"targets": [["q"], ["v", "out"], ["k"]], "rank": [1, 3], "width": [1, 5]}
    candidates |= {"num_tokens": [1, 64]}
    found = candidates.get(knob, [2 * value] if isinstance(value, float) else None)
    assert found, f"a new knob {knob}: give it values here"
    return [v for v in found if not components.complaint(v, annotation)]


CASES = [
    (name, knob, value)
    for name in ADDING
    for choice in [schema.read_choice("adapter", name)]
    for knob, annotation in components.find("adapter", choice["kind"]).knobs.items()
    for value in other_values(knob, choice[knob], annotation)
]


@pytest.mark.parametrize(("name", "knob", "value"), CASES)
def test_every_knob_trains_stores_and_loads(train, tmp_path, name, knob, value):
    text = f"[{','.join(value)}]" if isinstance(value, list) else value
    trained = train(tmp_path, *words_of(name), f"adapter.{knob}={text}", "train.steps=2")
    net = load(trained)
    assert all(p.isfinite().all() for p in net.parameters())
    assert trained.config["adapter"][knob] == value


def test_the_benchmark_runs():
    command = [sys.executable, "benchmarks/adapter_speed.py", "--rounds", "1", "--batch", "1"]
    command += ["--context", "33", "--threads", "1", "--precision", "fp32", "model=tiny"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert {row["adapter"] for row in rows} == set(members("adapter"))
