"""A sweep is never lost: if a job, a worker or the command dies, the other jobs complete."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from micro_transformer.records import record_files, run_record
from micro_transformer.runs import run_job
from micro_transformer.runs.planning import make_plan
from micro_transformer.store.checkpoints import read_snapshot

ROOT = Path(__file__).resolve().parents[2]
SMALL = "task=micro task.stories=300 model=tiny train=smoke train.threads=1 bench.threads=1"
QUIET = ["eval=none", "bench=none"]
LONG = ["train.steps=100000", "train.eval_every=100000"]
JOBLIB = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]


@pytest.fixture
def lab(tmp_path, micro_data):
    """Starts run.py of a source tree in an empty folder; its output is in `out<n>`."""

    class Lab:
        folder, started, root = tmp_path, 0, ROOT

        def start(self, *words):
            self.started += 1
            command = [sys.executable, str(self.root / "run.py"), *SMALL.split(), *words]
            own = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(self.root), "TMPDIR": str(tmp_path)}
            with open(tmp_path / f"out{self.started}", "w") as out:
                return subprocess.Popen(
                    [*command, f"data.dir={micro_data}"],
                    cwd=tmp_path,
                    env={**os.environ, **own},
                    stdout=out,
                    stderr=out,
                )

        def run(self, *words):
            return self.start(*words).wait(timeout=400)

        def said(self, number):
            return (tmp_path / f"out{number}").read_text()

        def records(self, name):
            return record_files.load_records(tmp_path / name).records

        def weights(self, store):
            folders = [p for p in (tmp_path / store).iterdir() if (p / "final").is_dir()]
            return {p.name: read_snapshot(p / "final")["weights.safetensors"] for p in folders}

    return Lab()


def wait_for(condition, limit_s=60.0):
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def test_alone_in_a_sweep_and_beside_another_a_job_gives_the_same_bits(lab):
    words = ["bench=none", "eval.measures.samples.num=1", "eval.measures.samples.length=8"]
    assert lab.run(*words, "seed=1", "store.dir=one") == 0
    assert lab.run(*words, "seed=1,2", "store.dir=two", "run.sweep=two", "-m") == 0
    assert lab.run(*words, "seed=1,2", "store.dir=three", "run.sweep=three", *JOBLIB, "-m") == 0
    sweep = {r.seed: run_record.lasting(r) for r in lab.records("multirun/two")}
    beside = {r.seed: run_record.lasting(r) for r in lab.records("multirun/three")}
    (alone,) = lab.records("outputs")
    assert sweep == beside and sweep[1] == run_record.lasting(alone) != sweep[2]
    assert lab.weights("two") == lab.weights("three")
    assert lab.weights("one").items() <= lab.weights("two").items()
    # one may end before the other measures
    assert any(r.env["jobs_beside"] == 1 for r in lab.records("multirun/three"))
    assert any(run_record.MEASURED_BESIDE in r.flags for r in lab.records("multirun/three"))
    assert not any(r.flags for r in lab.records("multirun/two"))


def test_two_commands_in_one_folder_share_the_jobs(lab):
    words = [*QUIET, "seed=1,2,3,4", "run.sweep=both", "-m"]
    twins = [lab.start(*words) for _ in range(2)]
    assert [twin.wait(timeout=400) for twin in twins] == [0, 0]
    ends = [lab.said(i).count("[INFO] - tiny-") for i in (1, 2)]
    fresh = sum(
        "recorded before" not in line and "left to" not in line
        for i in (1, 2)
        for line in lab.said(i).splitlines()
        if "micro_transformer.runs.run_job][INFO] - tiny-" in line
    )
    assert fresh == 4 and min(ends) > 0
    assert [r.status for r in lab.records("multirun/both")] == ["ok"] * 4


def test_costs_can_be_measured_alone_after_the_trainings(lab):
    words = ["eval=none", "bench.measures.decoding.new_tokens=16"]
    words += ["bench.measures.decoding.segment=8", "bench.measures.training.steps=1"]
    assert lab.run(*words, "seed=1,2", "run.sweep=a", "run.bench=alone", *JOBLIB, "-m") == 0
    for record in lab.records("multirun/a"):
        assert record.env["jobs_beside"] == 0 and record.cost["decode/tokens_per_s"] > 0
        assert run_record.TRAINED_BESIDE in record.flags
        assert not {run_record.MEASURED_BESIDE, run_record.COSTS_PENDING} & set(record.flags)


BAD = '''"""Ends as it is told."""

import os
import signal
import sys
import time
from collections.abc import Iterator

import torch

from micro_transformer.config.knobs import Size
from micro_transformer.evals.base import EvalContext, Measure


class Misbehave(Measure):
    """Ends as its turn wants."""

    def __init__(self, *, turn: Size):
        self.how = ["raise", "exit", "kill", "oom", "hang", "diverge", *["well"] * 6][turn]

    def run(self, subject: EvalContext) -> Iterator[tuple[str, float]]:
        """Yields one figure, or ends."""
        if self.how == "raise":
            raise RuntimeError("as told")
        if self.how == "exit":
            sys.exit(7)
        if self.how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.how == "oom":
            torch.empty(1 << 50)
        if self.how == "diverge":
            from micro_transformer.training.trainer import NonFinite

            raise NonFinite("val/loss is nan")
        if self.how == "hang":
            time.sleep(600)
        yield "val/well", 1.0
'''
ENDS = {  # of the first six turns of twelve
    "raise": ("failed", "RuntimeError: as told"),
    "exit": ("failed", "exit(7)"),
    "kill": ("killed", "SIGKILL"),
    "oom": ("oom", "can't allocate memory"),
    "hang": ("timeout", "after 6 s"),
    "diverge": ("nan", "val/loss is nan"),
}


def by_turn(lab):
    return {r.config["eval"]["measures"]["bad"]["turn"]: r for r in lab.records("multirun/bad")}


def test_a_job_that_ends_badly_is_named_and_the_others_finish(lab, tmp_path):
    lab.root = tmp_path / "lab"
    for name in ("micro_transformer", "conf"):
        skipped = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, lab.root / name, ignore=skipped)
    shutil.copy(ROOT / "run.py", lab.root)
    (lab.root / "micro_transformer/evals/misbehave.py").write_text(BAD)
    entry = "# Ends as told\nmeasures:\n  bad:\n    kind: Misbehave\n    turn: 11\n"
    (lab.root / "conf/eval/misbehave.yaml").write_text(entry)
    turns = f"eval.measures.bad.turn={','.join(map(str, range(12)))}"
    words = ["eval=misbehave", "bench=none", turns, "run.timeout_s=6", "run.sweep=bad", "-m"]
    assert lab.run(*QUIET) == 0  # trains, so that the limit is one on measuring
    assert lab.run(*words) == 1
    first = by_turn(lab)
    for turn, (status, error) in enumerate(ENDS.values()):
        assert first[turn].status == status and error in first[turn].error, first[turn].error
    assert [first[turn].status for turn in range(6, 12)] == ["ok"] * 6
    report = (tmp_path / "multirun/bad/report.md").read_text()
    for _, error in ENDS.values():
        assert error in lab.said(2).split("6 of 12 jobs failed:")[1]
        assert error.replace("'", "&#39;") in report or error in report, error
    assert lab.run(*words) == 1
    again = by_turn(lab)
    tried = {list(ENDS)[turn] for turn in range(12) if again[turn].started != first[turn].started}
    assert tried == set(ENDS) - {"diverge"}  # a loss that is no number is an answer
    assert lab.said(3).count("recorded before") == 7


def test_a_sweep_killed_three_times_ends_as_an_undisturbed_one():
    """Tests three such sweeps; the benchmark runs fifty."""
    command = [sys.executable, str(ROOT / "benchmarks/kill_sweeps.py"), "--sweeps", "3"]
    own = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env={**os.environ, **own}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "no record lost, doubled or changed" in done.stdout
    assert int(done.stdout.split("sweeps 0 to 2, ")[1].split()[0]) > 3, "the kills came too late"


def test_no_process_outlives_a_killed_command(lab):
    main = lab.start(*QUIET, *LONG, "seed=1,2", *JOBLIB, "-m")
    wait_for(lambda: list(lab.folder.glob("checkpoints/*/steps/*/manifest.json")))
    children = psutil.Process(main.pid).children(recursive=True)
    assert children
    main.kill()
    main.wait()
    _, left = psutil.wait_procs(children, timeout=5)
    assert all(p.status() == psutil.STATUS_ZOMBIE for p in left)  # dead; who inherits it is slow


def test_a_stop_reaches_all_jobs_that_run_at_once(lab):
    main = lab.start(*QUIET, *LONG, "seed=1,2", "run.sweep=stop", *JOBLIB, "-m")
    begun = "checkpoints/*/steps/*/manifest.json"  # by both jobs, not twice by one
    wait_for(lambda: len({path.parents[2] for path in lab.folder.glob(begun)}) == 2)
    main.send_signal(signal.SIGTERM)
    assert main.wait(timeout=20) == 143
    wait_for(lambda: len(lab.records("multirun/stop")) == 2, 10)
    assert {r.status for r in lab.records("multirun/stop")} == {"interrupted"}


def test_a_fault_of_our_own_is_recorded_and_ends_nothing(tmp_path, micro_data, monkeypatch):
    def broken(*_):
        raise KeyError("lost")

    monkeypatch.setattr(run_job, "fingerprints", broken)
    (job,) = make_plan([f"hydra.run.dir={tmp_path}/job", *SMALL.split()]).jobs
    job.config["data"]["dir"] = str(micro_data)
    end = run_job.run_job(job)
    assert (end.record.status, end.exit_code) == ("failed", 1)
    assert "KeyError" in record_files.read(tmp_path / "job" / "record.json").error
    assert "in broken" in (tmp_path / "job" / "run.log").read_text()
