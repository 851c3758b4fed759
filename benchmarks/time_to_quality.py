"""Seconds to the reference's loss, and the loss at its number of steps.

    python benchmarks/time_to_quality.py [--seeds 1 2 3] [--long] > time_to_quality.json

Whole processes, in turn. A: `reference_char_lm.py`, 2000 steps. B: `run.py train=quick` at the same
size (4 layers of 128), with an empty store. Both are scored over the whole validation split in
windows of 64 without earlier context. --long adds a run of the quick recipe with the reference's
2000 steps, context and batch. Run it alone on the machine; TinyShakespeare must be prepared (`make
data`).
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SAME_SIZE = ["model=1m", "model.num_layers=4", "task.window=64", "bench=none", "eval=none"]
SAME_STEPS = ["train.steps=2000", "train.context=64", "train.batch_size=12"]


def timed(command, folder):
    """Wall seconds of a whole process, and its output."""
    started = time.monotonic()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return time.monotonic() - started, done.stdout


def reference(text, seed, folder):
    command = [sys.executable, "benchmarks/reference_char_lm.py", str(text), str(seed)]
    seconds, out = timed(command, folder)
    return {"seconds": seconds, "loss": json.loads(out)["val/loss"]}


def ours(seed, folder, *words):
    where = [f"store.dir={folder}/store", f"hydra.run.dir={folder}/run"]
    command = [sys.executable, "run.py", "train=quick", *SAME_SIZE, *words, f"seed={seed}", *where]
    seconds, _ = timed(command, folder)
    last = (Path(folder) / "run" / "history.jsonl").read_text().splitlines()[-1]
    params = json.loads((Path(folder) / "run" / "record.json").read_text())["size"]["params"]
    return {"seconds": seconds, "loss": json.loads(last)["val/loss"], "params": params}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--long", action="store_true")
    parser.add_argument(
        "--text", type=Path, help="TinyShakespeare as text; default: from the prepared data"
    )
    asked = parser.parse_args()
    rounds = []
    for seed in asked.seeds:
        with tempfile.TemporaryDirectory() as folder:
            text = asked.text or prepared_text(Path(folder))
            rounds.append({"seed": seed, "reference": reference(text, seed, folder)})
            rounds[-1]["ours"] = ours(seed, folder)
            print(rounds[-1], file=sys.stderr)
    ratios = [r["reference"]["seconds"] / r["ours"]["seconds"] for r in rounds]
    worse = [r["ours"]["loss"] - r["reference"]["loss"] for r in rounds]
    result = {
        "rounds": rounds,
        "ratio": {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)},
        "loss above the reference": {"median": statistics.median(worse), "max": max(worse)},
    }
    if asked.long:
        with tempfile.TemporaryDirectory() as folder:
            result["2000 steps"] = ours(asked.seeds[0], folder, *SAME_STEPS)
    print(json.dumps(result, indent=1))


def prepared_text(folder):
    """TinyShakespeare as one file, joined from its prepared splits."""
    from micro_transformer.data.prepared_dataset import open_prepared

    knobs = {"text": "raw", "split": "contiguous", "tokenizer": "char"}
    data = open_prepared(ROOT / "data", "shakespeare", knobs)
    path = folder / "text.txt"
    parts = (data.tokenizer.decode(data.tokens(s).tolist()) for s in ("train", "val"))
    path.write_text("".join(parts), encoding="utf-8")
    return path


if __name__ == "__main__":
    main()
