"""Time saved by the store in a cross of positional encodings, caches and decodings.

    python benchmarks/store_saves.py

Runs a micro cross of 2 positions x 2 caches x 4 decodings. Prints its trainings and seconds, the
overhead per job beyond its processes, and the time to rerun the finished sweep.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from micro_transformer.records import record_files

ROOT = Path(__file__).resolve().parents[1]
JOB = ["task=micro", "task.stories=300", "model=tiny", "train=smoke", "train.steps=40"]
JOB += ["train.eval_every=40", "train.threads=1", "bench.threads=1", "bench=none"]
JOB += ["eval.measures.samples.num=1", "eval.measures.samples.length=8", "run.show_samples=0"]
GRID = ("posenc=rope,none", "cache=none,contiguous", "decoding=greedy,temperature,top_k,min_p")


def run(root: Path, *words: str) -> float:
    """Seconds of the command."""
    started = time.monotonic()
    subprocess.run(
        [sys.executable, str(ROOT / "run.py"), *JOB, *words, f"data.dir={root}/data"],
        check=True,
        cwd=root,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
    )
    return time.monotonic() - started


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        prepare = ["prepare", "task=micro", "stories=300", f"root={root}/data"]
        command = [sys.executable, "-m", "micro_transformer.data", *prepare]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        shared = run(root, *GRID, "run.sweep=shared", "-m")
        records = record_files.load_records(root / "multirun" / "shared").records
        trained = [r for r in records if "train" in r.phases]
        phases = sum(seconds or 0.0 for r in records for seconds in r.phases.values())
        again = run(root, *GRID, "run.sweep=shared", "-m")
        print(f"{len(records)} jobs, one store: {len(trained)} trainings, {shared:.1f} s")
        overhead = sum((r.seconds or 0.0) for r in records) - phases
        print(f"overhead per job beyond its processes: {overhead / len(records):.3f} s")
        print(f"rerun of the finished sweep: {again:.1f} s")
        training = sum(r.phases["train"] or 0.0 for r in trained) / len(trained)
        measuring = sum(r.phases["measure"] or 0.0 for r in records)
        pure = training * len(trained) + measuring
        print(f"sweep / (trainings + pure measuring): {shared / pure:.2f} x")
        saved = len(records) / len(trained)
        print(f"trainings without the store: {len(records)}, {saved:.0f} x as many")


if __name__ == "__main__":
    main()
