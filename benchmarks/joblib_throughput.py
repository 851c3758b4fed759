"""Two joblib workers with one thread each against one process with two threads, on two cores.

    python benchmarks/joblib_throughput.py [--jobs 8] [--steps 100] [--model tiny]

Whole commands, with start and report, interleaved. Aim: 1.3 times the throughput.
"""

import argparse

from lab import new_lab

JOBLIB = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
WAYS = {"one of two threads": (2, []), "two of one thread": (1, JOBLIB)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=8)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--model", default="tiny")
    asked = parser.parse_args()
    seeds = ",".join(map(str, range(asked.jobs)))
    words = ["task=micro", "task.stories=300", f"model={asked.model}", f"train.steps={asked.steps}"]
    words += ["bench=none", "eval=none", f"train.eval_every={asked.steps}", f"seed={seeds}", "-m"]
    seconds = {}
    with new_lab("task=micro", "stories=300") as lab:
        for number, (way, (threads, launcher)) in enumerate(WAYS.items()):
            here = [
                f"train.threads={threads}",
                f"bench.threads={threads}",
                f"run.sweep=way{number}",
            ]
            seconds[way] = lab.run(*words, *here, *launcher)
            print(f"{way}: {seconds[way]:.1f} s for {asked.jobs} trainings")
    one, two = seconds.values()
    print(f"two workers: {one / two:.2f} x the throughput")


if __name__ == "__main__":
    main()
