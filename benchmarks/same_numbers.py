"""Whether two commits train and measure the same numbers, bit by bit.

    python benchmarks/same_numbers.py A B [--runs quick recall …] [--seed 42]

Checks both commits out, prepares data with each, and runs the default and each task's smoke run in
both, with one seed and one thread. Compares the losses of every step, the metrics and the final
weights. Costs (times, memory) are not compared. B may be `.`: the working tree as it is. Exits 1
and lists what differs.
"""

import argparse
import hashlib
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import safe_open
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
QUIET = ["bench=none", "run.show_samples=0", "train.threads=1", "bench.threads=1", "device=cpu"]
SMOKE = ["model=tiny", "train=smoke", *QUIET]
MICRO = ["task=micro", *SMOKE]
PREPARED = ("shakespeare", "cuentos", "regenta", "micro")  # of their smallest size
RUNS = {
    "default": QUIET,
    **{f"{task} smoke": [f"task={task}", *SMOKE] for task in PREPARED},
    "recall smoke": ["task=recall", "eval=recall", "task.window=64", "train.context=64", *SMOKE],
    "alibi, manual": [*MICRO, "posenc=alibi", "attention=manual", "train.kernel=manual"],
    "sliding, int8": [*MICRO, "pattern=sliding", "cache=paged_int8", "cache.block=32"],
    "long context": [*MICRO, "eval=long_context", "scaling=yarn"],
}  # fmt: skip


@contextmanager
def checkout(commit: str) -> Iterator[Path]:
    """The tree of a commit; `.` is the working tree."""
    if commit == ".":
        yield ROOT
        return
    with tempfile.TemporaryDirectory() as temporary:
        tree = Path(temporary) / "tree"
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "--quiet", "--detach", str(tree), commit], check=True)
        try:
            yield tree
        finally:
            subprocess.run([*git, "remove", "--force", str(tree)], check=True)


def run(tree: Path, folder: Path, *words: str, threads: str | None = "1") -> None:
    """A command in that tree has succeeded. threads: of OpenMP; None: no limit."""
    limit = {} if threads is None else {"OMP_NUM_THREADS": threads}
    done = subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(tree), **limit},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        sys.exit(f"{' '.join(words)} in {tree}: exit {done.returncode}\n{done.stderr[-2000:]}")


def numbers(tree: Path, folder: Path, words: list[str]) -> dict[str, object]:
    """Maps name -> value of all results of a run: losses, metrics, digests of tensors."""
    run(tree, folder, str(tree / "run.py"), *words, f"data.dir={folder}/data")
    (path,) = folder.glob("outputs/*/record.json")
    record = json.loads(path.read_text())
    found = {f"metric {k}": v for k, v in record["metrics"].items()}
    for line in path.with_name("history.jsonl").read_text().splitlines():
        values = json.loads(line)
        step = values.pop("step")
        found |= {f"step {step} {k}": v for k, v in values.items() if k != "seconds"}
    final = folder / "checkpoints" / record["fingerprints"]["train"] / "final"
    with safe_open(str(final / "weights.safetensors"), "pt") as tensors:
        for name in tensors.keys():  # noqa: SIM118 - no mapping
            data = tensors.get_tensor(name).contiguous().numpy().tobytes()
            found[f"weights {name}"] = hashlib.sha256(data).hexdigest()[:12]
    path.unlink()
    return found


def differences(one: dict[str, object], other: dict[str, object]) -> list[str]:
    """The differences, one line each; a renamed tensor is no difference."""
    moved = {k: v for k, v in one.items() if k.startswith("weights") and k not in other}
    fresh = {k: v for k, v in other.items() if k.startswith("weights") and k not in one}
    if sorted(map(str, moved.values())) == sorted(map(str, fresh.values())):
        one = {k: v for k, v in one.items() if k not in moved}
        other = {k: v for k, v in other.items() if k not in fresh}
    return [
        f"{key}: {one.get(key, 'missing')} != {other.get(key, 'missing')}"
        for key in {**one, **other}
        if not _same(one.get(key, "missing"), other.get(key, "missing"))
    ]


def _same(one: object, other: object) -> bool:
    both_nan = all(isinstance(x, float) and math.isnan(x) for x in (one, other))
    return both_nan or one == other


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("commits", nargs=2, metavar="COMMIT")
    parser.add_argument("--runs", nargs="+", choices=RUNS, default=list(RUNS))
    parser.add_argument("--seed", type=int, default=42)
    asked = parser.parse_args()
    found: list[dict[str, dict[str, object]]] = []
    with tqdm(total=2 * len(asked.runs), unit="run") as bar:
        for commit in asked.commits:
            with checkout(commit) as tree, tempfile.TemporaryDirectory() as temporary:
                folder, here = Path(temporary), {}
                run(tree, folder, "-m", "micro_transformer.data", "prepare", f"root={folder}/data")
                for name in asked.runs:
                    here[name] = numbers(tree, folder, [*RUNS[name], f"seed={asked.seed}"])
                    bar.update()
                found.append(here)
    failed = False
    for name in asked.runs:
        lines = differences(found[0][name], found[1][name])
        failed |= bool(lines)
        print(f"{name}: {f'{len(lines)} differ' if lines else 'equal'} of {len(found[0][name])}")
        print("".join(f"  {line}\n" for line in lines[:10]), end="")
    sys.exit(int(failed))


if __name__ == "__main__":
    main()
