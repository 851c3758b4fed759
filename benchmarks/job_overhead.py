"""Seconds per job of a sweep beyond its own work.

    python benchmarks/job_overhead.py [--jobs 40]

The work is the time of the training loop and the measures, as reported by the processes that ran
them; the rest is overhead. Goals: 0.5 s per job, aim 0.1. Two sweeps of the same grid differ only
in their number of jobs, so the difference of their times excludes the start of the command and the
report. The jobs of the second kind also train.
"""

import argparse

from lab import MICRO, ONE_THREAD, Lab, new_lab

MEASURED = ["bench=none", "eval.measures.samples.num=1", "eval.measures.samples.length=8"]
FEW = 10


def grid(key: str, count: int) -> list[str]:
    """A sweep of `jobs` jobs."""
    values = {"decoding.top_p": lambda i: f"{0.1 + 0.8 * i / count:.4f}", "seed": str}[key]
    swept = f"{key}={','.join(values(i) for i in range(count))}"
    return [*MICRO, *ONE_THREAD, *MEASURED, "decoding=top_p", swept, f"run.sweep=jobs{count}", "-m"]


def overhead(lab: Lab, key: str, many: int) -> tuple[float, float]:
    """(seconds beyond the work, seconds of work) per job."""
    spent = []
    for count in (FEW, many):
        seconds = lab.run(*grid(key, count))
        phases = [record.phases for record in lab.records(f"jobs{count}")]
        names = ("train/work", "measure/work")
        spent.append((seconds, sum(p.get(name) or 0.0 for p in phases for name in names)))
    (less, little), (more, much) = spent
    jobs = many - FEW
    return (more - less - (much - little)) / jobs, (much - little) / jobs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=40)
    asked = parser.parse_args()
    with new_lab("task=micro", "stories=300") as lab:
        for words, key in (("measured only", "decoding.top_p"), ("trained and measured", "seed")):
            here = lab.at(key)
            beyond, work = overhead(here, key, asked.jobs)
            print(f"{words}: {beyond:.3f} s per job beyond {work:.3f} s of work")


if __name__ == "__main__":
    main()
