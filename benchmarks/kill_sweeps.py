"""Kill sweeps at random moments; the same command again must end with the same records and bits.

    python benchmarks/kill_sweeps.py [--sweeps 50] [--kills 3]

Each sweep of six micro jobs is killed several times (-9 or TERM, the command alone or all of its
processes) and then run to its end.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from micro_transformer import results

ROOT = Path(__file__).resolve().parents[1]
JOB = ["task=micro", "task.stories=300", "model=tiny", "train=smoke", "train.threads=1"]
JOB += ["bench.threads=1", "bench=none", "eval.measures.samples.num=1"]
JOB += ["eval.measures.samples.length=8", "run.show_samples=0"]
GRID = ["posenc=rope,none,alibi", "seed=1,2", "run.sweep=killed", "-m"]


def start(folder: Path, data: Path) -> subprocess.Popen:
    """The sweep, under way in the folder."""
    folder.mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, str(ROOT / "run.py"), *JOB, *GRID, f"data.dir={data}"],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def harm(process: subprocess.Popen, rng: random.Random, span: float) -> bool:
    """Whether the process was still running when it was killed."""
    time.sleep(rng.uniform(0.1, span / 2))
    if process.poll() is not None:
        return False
    number = rng.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM])
    if rng.random() < 0.5:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    process.wait()
    return True


def lasting(folder: Path) -> dict[str, dict]:
    """What must be equal of every record, by the name of its job."""
    loaded = results.load_records(folder / "multirun" / "killed")
    assert not loaded.skipped, loaded.skipped
    return {r.path.parent.name: results.lasting(r) for r in loaded.records if r.path}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sweeps", type=int, default=50)
    parser.add_argument("--kills", type=int, default=3)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        data = root / "data"
        prepare = ["prepare", "task=micro", "stories=300", f"root={data}"]
        command = [sys.executable, "-m", "micro_transformer.data", *prepare]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        started = time.monotonic()
        assert start(root / "whole", data).wait() == 0
        span, expected = time.monotonic() - started, lasting(root / "whole")
        assert len(expected) == 6
        hits = 0
        for sweep in range(asked.sweeps):
            rng, folder = random.Random(sweep), root / str(sweep)
            hits += sum(harm(start(folder, data), rng, span) for _ in range(asked.kills))
            assert start(folder, data).wait() == 0, f"sweep {sweep} did not end well"
            found = lasting(folder)
            assert found == expected, f"sweep {sweep}: records differ"
            left = [p for p in folder.rglob("*.tmp") if "checkpoints" not in p.parts]
            assert not left, left
        print(f"{asked.sweeps} sweeps, {hits} kills on the way: no record lost, doubled or changed")


if __name__ == "__main__":
    main()
