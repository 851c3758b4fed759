"""Data-parallel ranks make the same step as one process; only the first stores and records."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import safetensors.torch
import torch

from micro_transformer.data.windows import Windows
from micro_transformer.records import record_files
from micro_transformer.store.checkpoints import read_snapshot
from micro_transformer.tasks.language_modeling import LanguageModeling
from micro_transformer.training.ranks import Ranks
from micro_transformer.training.step import TrainingStep

ROOT = Path(__file__).resolve().parents[2]
WORDS = ["task=micro", "task.stories=300", "model=tiny", "train=smoke", "device=cpu"]
WORDS += [
    "train.matrix_dtype=fp32",
    "train.threads=1",
    "bench.threads=1",
    "bench=none",
    "eval=none",
]
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
TORCHRUN += ["--local-addr", "127.0.0.1"]  # a container without network cannot resolve its own name


@pytest.fixture
def lab(tmp_path, micro_data):
    """Starts run.py in an empty folder, with or without torchrun."""

    def start(*words, torchrun=(), **env):
        command = [sys.executable, *torchrun, str(ROOT / "run.py"), *WORDS, *words]
        own = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **env}
        with open(tmp_path / "out", "a") as out:
            return subprocess.Popen(
                [*command, f"data.dir={micro_data}"],
                cwd=tmp_path,
                env={**os.environ, **own},
                stdout=out,
                stderr=out,
            )

    start.folder = tmp_path
    start.said = lambda: (tmp_path / "out").read_text()
    return start


def trained(folder):
    (entry,) = folder.iterdir()
    return read_snapshot(entry / "final")


def close(one, two):
    return all(torch.allclose(one[name], two[name], rtol=1e-4, atol=5e-5) for name in one)


def test_two_ranks_train_what_one_process_trains_and_resume(lab):
    """With both optimizers; Muon in bf16 would turn rounding into differences of 1e-2."""
    words = ["train.dropout=0", "train.steps=60", "train.eval_every=30"]
    assert lab(*words, "store.dir=one").wait(timeout=180) == 0
    pair = lab(*words, "store.dir=two", torchrun=TORCHRUN)
    end = time.monotonic() + 180
    while not list(lab.folder.glob("two/*/steps/*/manifest.json")):
        assert pair.poll() is None and time.monotonic() < end
        time.sleep(0.02)
    pair.send_signal(signal.SIGTERM)
    pair.wait(timeout=60)
    assert list(lab.folder.glob("two/*/steps/*/manifest.json")) and not list(
        lab.folder.glob("two/*/final")
    )
    assert lab(*words, "store.dir=two", torchrun=TORCHRUN).wait(timeout=180) == 0, lab.said()
    one, two = (trained(lab.folder / name) for name in ("one", "two"))
    assert json.loads(two["state.json"])["progress"]["resumes"] == 1, lab.said()
    weights = [safetensors.torch.load(files["weights.safetensors"]) for files in (one, two)]
    assert close(*weights)
    found = record_files.load_records(lab.folder / "outputs").records
    assert sorted((r.config["ranks"], r.status) for r in found) == [(1, "ok"), (2, "ok")]
    assert len({r.fingerprints["train"] for r in found}) == 2
    # what is stored is measured by one process, without torchrun
    again = ["store.dir=two", "ranks=2", "decoding=greedy"]
    assert lab(*words, *again).wait(timeout=180) == 0
    assert len(list((lab.folder / "two").iterdir())) == 1


REFUSED = {
    "train.batch_size=3": "train.batch_size=3: 2 ranks take equal shares of a batch",
    "ranks=1": "ranks=1: torchrun started 2",
    "-m": "torchrun starts the ranks of one job",
}


@pytest.mark.parametrize("word", REFUSED)
def test_what_ranks_cannot_do_is_refused_in_a_line(lab, word):
    torchrun = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}
    assert lab(word, **torchrun).wait(timeout=180) == 2
    assert REFUSED[word] in lab.said() and lab.said().count("\n") == 1


def test_a_training_for_ranks_that_were_not_started_says_how_to_start_them(lab):
    assert lab("ranks=2").wait(timeout=180) == 2
    assert "torchrun --standalone --nproc-per-node 2" in lab.said()


@pytest.mark.parametrize("ranks, accumulate", [(1, 1), (1, 3), (2, 1), (2, 2), (3, 2)])
def test_the_ranks_mean_is_the_mean_over_all_targets_however_they_are_spread(ranks, accumulate):
    """Over ranks and micro-batches; a micro-batch without targets contributes 0."""
    size = (accumulate, 6, 5)
    wholes = list(map(Windows, torch.randint(1, 9, size), torch.randint(0, 3, size)))  # 0 is PAD
    wholes[-1].targets[:2] = 0
    task, table = object.__new__(LanguageModeling), torch.randn(9, 9)
    plain, weighted = [], []
    for rank in range(ranks):
        step = SimpleNamespace(ranks=Ranks(rank, ranks), task=task)
        shares = TrainingStep.shares(step, wholes)
        losses = [task.loss(lambda ids: table[ids], share) for share, _ in shares]
        plain.append(sum(losses) / accumulate)
        weighted.append(sum(w * loss for (_, w), loss in zip(shares, losses, strict=True)))
    whole = Windows(*(torch.cat(columns) for columns in zip(*wholes, strict=True)))
    right = task.loss(lambda ids: table[ids], whole)
    assert torch.stack(weighted).mean() == pytest.approx(right)
    assert (torch.stack(plain).mean() != pytest.approx(right)) == (ranks * accumulate > 1)


def test_a_step_without_a_target_has_no_loss():
    empty = Windows(torch.ones(2, 5, dtype=torch.long), torch.zeros(2, 5, dtype=torch.long))
    step = SimpleNamespace(ranks=Ranks(), task=object.__new__(LanguageModeling))
    assert [weight for _, weight in TrainingStep.shares(step, [empty, empty])] == [0, 0]


def test_shares_are_all_rows_once_and_draws_differ():
    whole = Windows(torch.arange(12).view(6, 2), torch.arange(6))
    shares = [Ranks(rank, 3).share(whole) for rank in range(3)]
    assert sorted(torch.cat([share.targets for share in shares]).tolist()) == list(range(6))
    assert all(torch.equal(share.ids, whole.ids[share.targets]) for share in shares)
    assert Ranks().share(whole) is whole
    names = [Ranks(rank, 3).name for rank in range(3)]
    assert len(set(names)) == 3 and names[0] == Ranks().name


def test_ranks_train_a_base_and_then_what_starts_from_it(lab):
    """Two process groups in turn: torchrun's key-value store keeps addresses of the first."""
    words = ["base=long", "base.train=smoke", "train=extend", "train.context=64"]
    words += ["train.batch_size=2"]
    words += ["train.steps=4", "train.warmup_steps=1", "train.eval_every=4", "train.lr=0.001"]
    assert lab(*words, torchrun=TORCHRUN).wait(timeout=120) == 0, lab.said()
    (record,) = record_files.load_records(lab.folder / "outputs").records
    assert record.status == "ok" and {"base", "train", "measure"} <= set(record.phases)
    assert len(list(lab.folder.glob("checkpoints/*/final"))) == 2
