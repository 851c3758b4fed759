"""A base of another task: what it is, its data, its head, and what contradicts it."""

import json
import shutil
from pathlib import Path

import pytest
import safetensors.torch
import torch

from micro_transformer.build import training
from micro_transformer.config import choices, compatibility
from micro_transformer.config.overrides import BadConfig
from micro_transformer.data import files, prepared_dataset
from micro_transformer.data.build_dataset import prepare
from micro_transformer.data.configured import data_digest, other_tokenizer
from micro_transformer.data.corpora.catalog import corpus
from micro_transformer.data.prepared_dataset import DataMissing
from micro_transformer.runs import run_job, worker
from micro_transformer.runs.planning import make_plan
from micro_transformer.store import trainings
from micro_transformer.store.catalog import Stored
from micro_transformer.store.checkpoints import Entry, read_snapshot
from micro_transformer.store.fingerprints import fingerprints
from tests.runs.extending import config_of

TINY = ["model=tiny", "model.d_model=32", "train.threads=1", "device=cpu"]
LABELS = ["option=C", "task.tokenizer=byte", "base.train=smoke", "train=smoke", *TINY]
STORIES = ["task=cuentos", "task.tokenizer=byte", "base=shakespeare", "base.train=smoke"]
STORIES += ["train=smoke", *TINY]
PAIRS = {"sentences": LABELS, "stories": STORIES}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    for name in ("sst2", "mlm", "shakespeare", "cuentos"):
        prepare(corpus(name, {"tokenizer": "byte"}), root, tier="grammar")
    return root


@pytest.fixture
def conf(tmp_path, monkeypatch):
    """A copy of conf/ that a test may add choices to."""
    monkeypatch.setattr(choices, "CONF", Path(shutil.copytree(choices.CONF, tmp_path / "conf")))
    return tmp_path / "conf"


@pytest.fixture
def train(data, tmp_path, monkeypatch):
    """The training of the overrides with its base, both stored."""
    monkeypatch.setattr(worker, "make_deterministic", lambda threads: None)

    def run(*words):
        planned = training_of(data, *words, f"store.dir={tmp_path / 'store'}")
        for part in (planned.base, planned):
            worker.train(*part.work)
        return planned

    return run


def training_of(data, *words):
    config = config_of(*words, f"data.dir={data}")
    return trainings.of(config, fingerprints(config, data_digest(config)))


def weights(planned):
    return safetensors.torch.load(read_snapshot(planned.entry.final)["weights.safetensors"])


@pytest.mark.parametrize("name", PAIRS)
def test_a_net_starts_from_the_body_of_its_base(train, name):
    """A step of next to nothing keeps it; a head of classes is drawn from the run's own seed."""
    still = [*PAIRS[name], "train.lr=1e-12", "train.matrix_lr=1e-12", "train.dropout=0"]
    one, other = train(*still, "seed=1"), train(*still, "seed=2")
    base = weights(one.base)
    assert one.base.entry.folder == other.base.entry.folder
    for planned in (one, other):
        found = weights(planned)
        initial = training.build_model(planned.config, training.build_task(planned.config))
        is_fresh = name == "sentences"
        for key, value in found.items():
            mine = is_fresh and key.startswith("head.")
            wanted = initial.state_dict()[key] if mine else base[key]
            torch.testing.assert_close(value, wanted, rtol=0, atol=1e-6, msg=key)


def test_the_base_costs_what_its_record_says(train):
    planned = train(*LABELS)
    cost = json.loads(read_snapshot(planned.entry.final)["state.json"])["progress"]["cost"]
    assert cost["base/train/seconds"] > 0 and cost["train/seconds"] > 0


@pytest.mark.parametrize("name", PAIRS)
def test_the_base_is_the_training_that_its_own_words_name(data, name):
    own = {
        "sentences": ["task=mlm", "arch=masked_lm", "eval=score", "bench=none"],
        "stories": ["task=shakespeare"],
    }[name]
    alone = training_of(data, *own, "task.tokenizer=byte", "train=smoke", *TINY)
    base = training_of(data, *PAIRS[name], "seed=5").base
    assert base.factors == alone.factors and base.entry.folder.name == alone.entry.folder.name


def test_another_seed_of_the_base_is_another_net_and_no_base_another_training(data):
    one, other = (training_of(data, *LABELS, *more) for more in ([], ["base.seed=7"]))
    none = training_of(data, *without_base(LABELS), "base=none")
    assert one.base.factors != other.base.factors and one.factors != other.factors
    assert none.base is None and none.factors != one.factors


def without_base(words):
    return [word for word in words if not word.startswith("base.")]


def test_other_data_of_the_base_make_another_training(data, tmp_path):
    """Its digest is part of the fine-tuning's factors, after that of its own data."""
    before = training_of(data, *LABELS)
    root = Path(shutil.copytree(data, tmp_path / "data"))
    folder = root / "prepared" / "mlm-byte"
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "val.text.bin").write_bytes((folder / "val.text.bin").read_bytes()[::-1])
    manifest["files"]["val.text.bin"] = files.sha256(folder / "val.text.bin")
    manifest["digest"] = prepared_dataset.digest_of(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    after = training_of(root, *LABELS)
    own, its = before.factors["data"].split(" ")
    assert after.factors["data"] == f"{own} {manifest['digest']}" != f"{own} {its}"
    assert before.base.factors["data"] == its
    config = config_of(*without_base([*LABELS, "base=none"]), f"data.dir={data}")
    assert data_digest(config) == own


def test_data_of_the_base_are_asked_for_before_anything_runs(data, tmp_path):
    shutil.copytree(data / "prepared/sst2-2k-byte", tmp_path / "prepared/sst2-2k-byte")
    (job,) = make_plan([*LABELS, f"data.dir={tmp_path}"]).jobs
    with pytest.raises(DataMissing, match="mlm-byte is not prepared.*task=mlm tokenizer=byte"):
        data_digest(job.config)


def test_a_base_of_the_same_task_has_the_data_of_the_task(data):
    words = ["task=shakespeare", "task.tokenizer=byte", "base=long", "train=smoke", *TINY]
    config = config_of(*words, f"data.dir={data}")
    assert " " not in data_digest(config)


def test_a_base_of_a_base_of_another_task(data, conf):
    """Sentences from sentences with labels from sentences without."""
    (conf / "base/labels.yaml").write_text(
        "seed: 3\ntask: sst2\narch: encoder\ntrain: smoke\nbase: mlm\n"
    )
    words = without_base([*LABELS, "base=labels"])
    third, second = training_of(data, *words), training_of(data, *LABELS, "seed=3")
    own, its = second.factors["data"].split(" ")
    assert third.factors["data"] == f"{own} {its}" == third.base.factors["data"]
    assert third.base.base.factors["data"] == its and third.base.base.base is None


def test_the_store_knows_which_training_starts_from_which(data, tmp_path):
    planned, other = training_of(data, *LABELS), training_of(data, *STORIES)
    found = {}
    for each in (planned, planned.base, other.base):
        entry = Entry(tmp_path, each.entry.fingerprint)
        entry.open(each.factors)
        found[each.entry.fingerprint] = Stored(entry, entry.factors())
    start = found[planned.entry.fingerprint]
    assert start.starts_from(found[planned.base.entry.fingerprint])
    assert not start.starts_from(found[other.base.entry.fingerprint])


def test_another_tokenizer_is_one_line_before_anything_is_trained(data):
    """Both read characters, but of other texts."""
    words = [w.replace("byte", "char") for w in STORIES]
    for name in ("shakespeare", "cuentos"):
        prepare(corpus(name, {"tokenizer": "char"}), data, tier="grammar")
    config = config_of(*words, f"data.dir={data}")
    (line,) = other_tokenizer(config)
    assert line.startswith("base: shakespeare-contiguous-raw-char and cuentos-book-clean-char have")
    assert line in run_job._rules(config) and "\n" not in line
    assert other_tokenizer(config_of(*STORIES, f"data.dir={data}")) == []


MISFITS = {
    "base=shakespeare": "base.arch=decoder: is of kind DecoderLM and this net of kind Encoder",
    "base.arch=encoder": "base.task=mlm: arch: kind Encoder needs labels, which task kind MaskedLM",
    "base.task=sst2": "base.task=sst2: arch: kind Encoder needs masked_tokens, which task kind",
    "base.task=none": "base.task=none: must be one of",
    "arch.pooling=none": "arch: kind Encoder needs masked_tokens, which task kind SST2",
    "arch=decoder": "base.arch=masked_lm: is of kind Encoder and this net of kind DecoderLM",
    "pattern=sliding": "pattern kind Sliding: arch kind Encoder sees the whole text",
    "bench=quick": "bench.measures.decoding: kind DecodingSpeed needs tokens, which task kind SST2",
    "eval=translation": "eval.measures.translation: kind Translation needs source_target, which",
}


@pytest.mark.parametrize("word", MISFITS)
def test_what_contradicts_the_base_is_one_line(word):
    with pytest.raises(BadConfig) as caught:
        make_plan(["option=C", word])
    assert any(line.startswith(MISFITS[word]) for line in caught.value.lines), caught.value.lines
    assert all(len(line) < 250 for line in caught.value.lines)


def test_a_tokenizer_that_the_base_lacks_is_one_line():
    with pytest.raises(BadConfig, match="task.tokenizer=bpe_4k: the base reads the same ids, and"):
        make_plan(["task=cuentos", "task.tokenizer=bpe_4k", "base=shakespeare"])


def test_controls_are_cells():
    """From scratch, another pre-trained net, another pooling: no code."""
    plan = make_plan(["option=C", "base=none,mlm", "arch.pooling=cls,mean", "-m", "run.sweep=x"])
    assert len(plan.jobs) == 4
    assert not any(compatibility.conflicts(job.config) for job in plan.jobs)
