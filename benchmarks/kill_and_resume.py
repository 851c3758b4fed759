"""Kills a run with -9 at random moments and reruns it: the weights must be bit-identical.

    python benchmarks/kill_and_resume.py [--kills 20]

Each kill hits a fresh run of `task=micro model=tiny` (its whole process group, at a random moment
of its undisturbed duration); the command is then repeated until it ends.
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

from micro_transformer.store.checkpoints import read_snapshot

ROOT = Path(__file__).resolve().parents[1]
JOB = ["task=micro", "task.stories=300", "model=tiny", "train=smoke", "train.steps=100"]
JOB += ["train.threads=1", "bench=none", "eval=none", "train.eval_every=100"]


def command(folder):
    where = [f"data.dir={folder.parent}/data", f"store.dir={folder}/store"]
    return [sys.executable, str(ROOT / "run.py"), *JOB, *where, f"hydra.run.dir={folder}/run"]


def weights(folder):
    (entry,) = (folder / "store").iterdir()
    return read_snapshot(entry / "final")["weights.safetensors"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    asked = parser.parse_args()
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        prepare = ["prepare", "task=micro", "stories=300", f"root={root}/data"]
        subprocess.run(
            [sys.executable, "-m", "micro_transformer.data", *prepare], check=True, **quiet
        )
        started = time.monotonic()
        subprocess.run(command(root / "whole"), check=True, **quiet)
        span, expected = time.monotonic() - started, weights(root / "whole")
        during = 0
        for kill in range(asked.kills):
            folder = root / str(kill)
            moment = random.Random(kill).uniform(0.1, span)
            process = subprocess.Popen(command(folder), start_new_session=True, **quiet)
            time.sleep(moment)
            during += process.poll() is None
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            subprocess.run(command(folder), check=True, **quiet)
            assert weights(folder) == expected, f"other bits after a kill at {moment:.2f} s"
        print(f"{asked.kills} runs, {during} killed midway: all bit-identical")


if __name__ == "__main__":
    main()
