"""What a cross costs beyond its trainings and measurements, and how many trainings it saves.

    python benchmarks/cross_cost.py [--model 1m] [--train quick] [WORD ...]

3 positional encodings x 3 seeds x all caches x 5 decodings on our own stories. Goal: the whole
command takes at most 1.2 times the seconds of its training loops and measures, as reported by the
processes that ran them. Without the store every job would train.
"""

import argparse

from lab import new_lab

GRID = ["posenc=rope,alibi,sinusoidal", "cache=glob(*)", "seed=42,43,44"]
GRID += ["decoding=greedy,temperature,top_k,top_p,min_p", "run.sweep=cross", "run.show_samples=0"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="1m")
    parser.add_argument("--train", default="quick")
    parser.add_argument("--stories", type=int, default=2000)
    parser.add_argument("words", nargs="*", help="more overrides; the last of a key counts")
    asked = parser.parse_args()
    sizes = [f"model={asked.model}", f"train={asked.train}", f"task.stories={asked.stories}"]
    said = " ".join([*sizes, *asked.words])
    with new_lab("task=micro", f"stories={asked.stories}") as lab:
        wall = lab.run("task=micro", *sizes, *GRID, *asked.words, "-m")
        records = lab.records("cross")
    work = {
        name: sum(r.phases.get(f"{name}/work") or 0.0 for r in records)
        for name in ("train", "measure")
    }
    whole = {name: sum(r.phases.get(name) or 0.0 for r in records) for name in work}
    trained = sum("train" in r.phases for r in records)
    total = sum(work.values())
    print(f"{said}: {len(records)} jobs, {trained} trainings")
    print(f"the command {wall:.1f} s = {wall / total:.2f} x {total:.1f} s of work")
    for name, seconds in work.items():
        print(f"  {name}: {seconds:.1f} s of work in {whole[name]:.1f} s of processes")
    print(f"  the jobs: {sum(r.seconds or 0.0 for r in records):.1f} s")
    print(f"without the store: {len(records) / trained:.0f} x the trainings")


if __name__ == "__main__":
    main()
