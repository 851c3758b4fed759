"""Seconds to rerun a finished sweep of 100 jobs, and of `check=true`.

    python benchmarks/rerun_sweep.py

Goals: under 5 s, without a training; `check` under 1 s. The sweep has 10 trainings, each measured
at 10 values of top_p.
"""

from lab import MICRO, ONE_THREAD, new_lab

SHARES = ",".join(f"{share / 100:.2f}" for share in range(50, 100, 5))
SEEDS = ",".join(map(str, range(1, 6)))
SAMPLES = ["eval.measures.samples.num=1", "eval.measures.samples.length=8"]
GRID = ["posenc=rope,none", f"seed={SEEDS}", "decoding=top_p", f"decoding.top_p={SHARES}"]
SWEEP = [*MICRO, *ONE_THREAD, "bench=none", *SAMPLES, *GRID, "run.sweep=hundred", "-m"]
TURNS = 3


def main() -> None:
    with new_lab("task=micro", "stories=300") as lab:
        first = lab.run(*SWEEP)
        before = {r.path: r.path.stat().st_mtime_ns for r in lab.records("hundred") if r.path}
        again = [lab.run(*SWEEP) for _ in range(TURNS)]
        check = [lab.run("check=true", *SWEEP) for _ in range(TURNS)]
        after = {r.path: r.path.stat().st_mtime_ns for r in lab.records("hundred") if r.path}
        assert after == before and len(before) == 100, "a record was written again"
        trainings = list(lab.folder.glob("checkpoints/*/final"))
    print(f"{len(before)} jobs, {len(trainings)} trainings: {first:.1f} s the first time")
    print(f"again: {', '.join(f'{s:.2f}' for s in again)} s; nothing was trained or measured")
    print(f"check: {', '.join(f'{s:.2f}' for s in check)} s")


if __name__ == "__main__":
    main()
