"""Kills sweeps at random moments; the rerun command must end with the same records and weights.

    python benchmarks/kill_sweeps.py [--sweeps 50] [--first 0] [--kills 3] [--jobs 1]

Each sweep of six micro jobs, --jobs of them concurrent, is killed several times (-9 or TERM, the
command alone or all of its processes) and then run to its end. The moments of sweep n follow from
n, so a long count can be split over several commands.
"""

import argparse
import os
import random
import signal
import subprocess
import time

from lab import MICRO, ONE_THREAD, Lab, new_lab

from micro_transformer.records import run_record

JOB = [*MICRO, *ONE_THREAD, "bench=none", "eval.measures.samples.num=1"]
JOB += ["eval.measures.samples.length=8"]
SWEEP = [*JOB, "posenc=rope,none,alibi", "seed=1,2", "run.sweep=killed", "-m"]


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
    code = process.wait(timeout=10)
    assert number == signal.SIGKILL or code in (143, -number), f"exit {code} after SIGTERM"
    return True


def lasting(lab: Lab) -> dict[str, dict]:
    """Maps job name -> the part of its record that must be equal."""
    return {r.path.parent.name: run_record.lasting(r) for r in lab.records("killed") if r.path}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sweeps", type=int, default=50)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=1, help="number of concurrent jobs")
    asked = parser.parse_args()
    launcher = ["hydra/launcher=joblib", f"hydra.launcher.n_jobs={asked.jobs}"]
    command = [*SWEEP, *launcher * (asked.jobs > 1)]
    with new_lab("task=micro", "stories=300") as root:
        whole = root.at("whole")
        span, hits = whole.run(*command), 0
        expected = lasting(whole)
        assert len(expected) == 6
        for sweep in range(asked.first, asked.first + asked.sweeps):
            rng, lab = random.Random(sweep), root.at(str(sweep))
            landed = [harm(lab.start(*command), rng, span) for _ in range(asked.kills)]
            hits += sum(landed)
            lab.run(*command)
            assert lasting(lab) == expected, f"sweep {sweep}: records differ"
            left = list(lab.folder.rglob("*.tmp"))
            assert not left, left
    last = asked.first + asked.sweeps - 1
    print(f"sweeps {asked.first} to {last}, {hits} of {asked.sweeps * asked.kills} kills landed:")
    print("  no record lost, doubled or changed")


if __name__ == "__main__":
    main()
