"""Whether commit B is slower than commit A: interleaved rounds, ratios with 95 % intervals.

    python benchmarks/same_speed.py A B [--rounds 9] [--most 1.06]

Each round runs in both commits, the order alternating: the default run with a new seed (wall time,
and its own decoding and training figures at 1m), `check=true` (wall time), and the same figures of
a net of 8m. Prints the geometric mean of the ratios B / A of times, its t interval, and both
medians; exits 1 if an interval's upper end is above --most. Run it on an idle machine. B may be
`.`: the working tree as it is.
"""

import argparse
import json
import math
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from same_numbers import checkout, run
from scipy import stats
from tqdm import tqdm

BIG = ["model=8m", "eval=none", "train.steps=2", "train.eval_every=2", "train.warmup_steps=1"]
SHOWN = {"decode/tokens_per_s": -1, "train/ms_per_batch": 1}  # -1: a rate, so time is 1 / rate


class Side:
    """One commit with its own data, store and outputs."""

    def __init__(self, tree: Path, folder: Path):
        self.tree, self.folder = tree, folder
        self.times: dict[str, list[float]] = defaultdict(list)
        folder.mkdir()
        run(
            tree,
            folder,
            "-m",
            "micro_transformer.data",
            "prepare",
            f"root={folder}/data",
            threads=None,
        )

    def round(self, seed: int) -> None:
        """Every figure is taken once more."""
        self.times["default run, s"].append(self.job(f"seed={seed}"))
        self.figures("1m")
        self.times["check=true, s"].append(self.job(f"seed={seed}", "check=true"))
        self.job(*BIG, "run.force=true")
        self.figures("8m")

    def run(self, *words: str) -> None:
        """One command of this commit ended well."""
        run(self.tree, self.folder, *words, threads=None)

    def job(self, *words: str) -> float:
        """Wall seconds of run.py."""
        words = (*words, "run.show_samples=0", f"data.dir={self.folder}/data")
        started = time.perf_counter()
        self.run(str(self.tree / "run.py"), *words)
        return time.perf_counter() - started

    def figures(self, name: str) -> None:
        """The times in the newest record."""
        paths = self.folder.glob("outputs/*/record.json")
        cost = json.loads(max(paths, key=lambda path: path.stat().st_mtime).read_text())["cost"]
        for key, power in SHOWN.items():
            self.times[f"{name} {key}, as time"].append(cost[key] ** power)


def interval(ratios: list[float]) -> tuple[float, float, float]:
    """Geometric mean and its 95 % t interval."""
    logs = [math.log(ratio) for ratio in ratios]
    mean, error = statistics.mean(logs), statistics.stdev(logs) / math.sqrt(len(logs))
    half = float(stats.t.ppf(0.975, len(logs) - 1)) * error
    return math.exp(mean), math.exp(mean - half), math.exp(mean + half)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("commits", nargs=2, metavar="COMMIT")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--most", type=float, default=1.06)
    asked = parser.parse_args()
    old, new = asked.commits
    with checkout(old) as a, checkout(new) as b, tempfile.TemporaryDirectory() as temporary:
        sides = [Side(a, Path(temporary) / "a"), Side(b, Path(temporary) / "b")]
        for number in tqdm(range(asked.rounds), unit="round"):
            for side in sides[:: 1 if number % 2 else -1]:
                side.round(100 + number)
    failed = False
    for name, times in sides[0].times.items():
        others = sides[1].times[name]
        mean, low, high = interval([y / x for x, y in zip(times, others, strict=True)])
        failed |= high > asked.most
        print(
            f"{name}: {mean:.3f} ({low:.3f} to {high:.3f}); "
            f"{statistics.median(times):.4g} and {statistics.median(others):.4g}"
        )
    sys.exit(int(failed))


if __name__ == "__main__":
    main()
