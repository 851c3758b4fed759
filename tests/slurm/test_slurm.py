"""A sweep on a real Slurm of this box: the same bits, and nothing lost to a killed or moved job."""

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from micro_transformer.records import record_files, run_record
from micro_transformer.store.checkpoints import read_snapshot

ROOT = Path(__file__).resolve().parents[2]
NEEDED = ("slurmctld", "slurmd", "munged", "sbatch")
MISSING = [name for name in NEEDED if shutil.which(name) is None]
MISSING += ["hydra-submitit-launcher"] * (importlib.util.find_spec("submitit") is None)
SMALL = ["task=micro", "task.stories=300", "model=tiny", "train=smoke"]
SMALL += ["train.threads=1", "bench.threads=1"]
QUIET = ["eval=none", "bench=none"]
SLURM = ["hydra/launcher=submitit_slurm", "hydra.launcher.mem_gb=1", "hydra.launcher.timeout_min=5"]
LONG = ["train.steps=3000", "train.eval_every=3000", "train.checkpoint_every=20"]
pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(
        bool(MISSING) or os.geteuid() != 0,
        reason=f"needs root and {', '.join(MISSING) or 'nothing else'}: "
        "docs/many_machines.md says how to install them",
    ),
]


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    """The environment of a Slurm of two nodes that lives as long as these tests."""
    lab = Path(f"/var/tmp/slurm-lab-{os.getpid()}")
    lab.mkdir(mode=0o755)
    env = {**os.environ, "SLURM_LAB_DIR": str(lab)}
    script = ["bash", str(ROOT / "scripts" / "slurm_lab.sh")]
    try:
        subprocess.run([*script, "start"], env=env, check=True, timeout=90, capture_output=True)
        path = f"{lab / 'bin'}:{os.environ['PATH']}"
        yield {**os.environ, "SLURM_CONF": str(lab / "slurm.conf"), "PATH": path}
    finally:
        subprocess.run([*script, "stop"], env=env, check=False)
        time.sleep(1)
        shutil.rmtree(lab, ignore_errors=True)


@pytest.fixture
def lab(slurm, tmp_path, micro_data):
    """Starts run.py in an empty folder."""

    def start(*words):
        command = [sys.executable, str(ROOT / "run.py"), *SMALL, *QUIET, *words]
        env = {**slurm, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        out = open(tmp_path / "out", "a")  # noqa: SIM115 - the child's
        process = subprocess.Popen(
            [*command, f"data.dir={micro_data}"], cwd=tmp_path, env=env, stdout=out, stderr=out
        )
        out.close()
        return process

    start.folder = tmp_path
    start.env = slurm
    return start


def records(folder, sweep):
    return {r.seed: r for r in record_files.load_records(folder / "multirun" / sweep).records}


def weights(folder, store):
    folders = [p for p in (folder / store).iterdir() if (p / "final").is_dir()]
    return {p.name: read_snapshot(p / "final")["weights.safetensors"] for p in folders}


def wait_for(condition, limit_s=90.0):
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)


def states(folder):
    return list(folder.glob("checkpoints/*/steps/*/manifest.json"))


def test_a_sweep_on_slurm_gives_the_bits_of_one_here(lab):
    assert lab("seed=1,2", "run.sweep=there", *SLURM, "-m").wait(timeout=120) == 0
    assert lab("seed=1,2", "run.sweep=here", "store.dir=here", "-m").wait(timeout=120) == 0
    there, here = (records(lab.folder, name) for name in ("there", "here"))
    assert set(there) == {1, 2}
    assert all(run_record.lasting(there[s]) == run_record.lasting(here[s]) for s in there)
    assert weights(lab.folder, "checkpoints") == weights(lab.folder, "here")


def test_a_job_killed_on_slurm_is_recorded_and_tried_again(lab):
    words = ["seed=1,2", "run.sweep=killed", *LONG, *SLURM, "-m"]
    main = lab(*words)
    wait_for(lambda: states(lab.folder))
    held = next(iter(lab.folder.glob("multirun/killed/*/holder.json"))).read_text()
    os.kill(int(held.split('"pid": ')[1].split(",")[0]), signal.SIGKILL)
    assert main.wait(timeout=200) == 1
    found = records(lab.folder, "killed")
    assert sorted(r.status for r in found.values()) == ["killed", "ok"]
    assert lab(*words).wait(timeout=120) == 0
    assert {r.status for r in records(lab.folder, "killed").values()} == {"ok"}


def test_a_job_that_slurm_takes_back_is_requeued_and_resumes(lab):
    again = "hydra.launcher.max_num_timeout=2"
    main = lab("seed=1,2", "run.sweep=moved", *LONG, *SLURM, again, "-m")
    wait_for(lambda: states(lab.folder))
    listed = subprocess.run(
        ["squeue", "-h", "-t", "running", "-o", "%A"], env=lab.env, capture_output=True, text=True
    )
    job = listed.stdout.split()[0]
    subprocess.run(["scancel", "--signal=USR2", job], env=lab.env, check=True)

    def hurried():
        words = ["scontrol", "update", f"JobId={job}", "StartTime=now"]
        subprocess.run(words, env=lab.env, capture_output=True, check=False)
        return main.poll() is not None

    wait_for(hurried, 200)
    assert main.returncode == 0
    assert {r.status for r in records(lab.folder, "moved").values()} == {"ok"}
    finals = [p / "final" for p in (lab.folder / "checkpoints").iterdir()]
    resumes = [b'"resumes": 0' not in read_snapshot(f)["state.json"] for f in finals]
    assert any(resumes)
