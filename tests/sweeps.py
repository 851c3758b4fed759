"""A real sweep in smoke size, for the tests of what reads one."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
SMOKE = (
    "task=micro", "task.stories=300", "model=tiny", "train=smoke", "train.threads=1",
    "bench.threads=1", "eval.measures.samples.num=1", "eval.measures.samples.length=8",
    "bench.measures.decoding.new_tokens=32", "bench.measures.decoding.segment=8",
    "bench.measures.training.context=32", "bench.measures.training.steps=1",
)  # fmt: skip


def environment() -> dict[str, str]:
    """Where the package is found from another folder; one thread."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def run_sweep(folder: Path, data: Path, *words: str) -> Path:
    """folder/multirun/real holds the records of the sweep, folder/checkpoints its trainings."""
    command = [sys.executable, str(ROOT / "run.py"), *SMOKE, *words, f"data.dir={data}"]
    command += ["run.sweep=real", "-m"]
    subprocess.run(command, cwd=folder, env=environment(), check=True, capture_output=True)
    return folder / "multirun" / "real"
