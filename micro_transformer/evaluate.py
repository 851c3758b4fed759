"""python -m micro_transformer.evaluate CHECKPOINT [--split val] [--json]: scores a trained model.

CHECKPOINT is a folder of the store, such as checkpoints/1a2b3c4d5e6f. Every byte is checked before
it is used. The data must be prepared; the score is over the whole split, unsmoothed.
"""

import json
import math
import sys
from pathlib import Path
from typing import Any

from micro_transformer.console import Parser, command
from micro_transformer.data.prepared import DataDamaged, DataMissing
from micro_transformer.machine import cuda_usable
from micro_transformer.store import Damaged, Entry


def main(words: list[str] | None = None) -> int:
    """Exit code: 0 done, 3 the checkpoint or the data cannot be used."""
    parser = Parser(
        prog="python -m micro_transformer.evaluate", description="Score a trained model."
    )
    parser.add_argument("checkpoint", type=Path, help="a folder of the store")
    parser.add_argument("--split", default="val", help="a split of its data (default: val)")
    parser.add_argument("--data", default="data", help="where prepared data lie (default: data)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    asked = parser.parse_args(words)
    try:
        found = score(asked.checkpoint, asked.split, asked.data)
    except (Damaged, DataMissing, DataDamaged, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 3
    lines = (f"{name:<24} {value:.6g}" for name, value in found.items())
    plain = {name: value if math.isfinite(value) else None for name, value in found.items()}
    print(json.dumps(plain, allow_nan=False) if asked.json else "\n".join(lines))
    return 0


def score(checkpoint: Path, split: str, data_dir: str) -> dict[str, float]:
    """Metrics of the trained model over the split, by name with the split."""
    from micro_transformer import build, worker  # loads torch
    from micro_transformer.repro import make_deterministic

    entry = Entry(checkpoint.parent, checkpoint.name)
    entry.verify()
    config: dict[str, Any] = {**factors(entry)["config"], "data": {"dir": data_dir}}
    config |= {"attention": {"kind": "Auto"}, "scaling": {"kind": "NoScaling"}}
    if not cuda_usable():
        config["device"] = "cpu"
    make_deterministic(config["train"]["threads"])
    task = build.task(config)
    model, _ = worker.load(config, entry.final, task)
    return {f"{split}/{name}": value for name, value in task.score(model, split).items()}


def factors(entry: Entry) -> dict[str, Any]:
    """What the training depends on; Damaged when there is no such training."""
    path = entry.folder / "factors.json"
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise Damaged(f"{path}: missing or not readable; give a folder of the store") from error


if __name__ == "__main__":
    command(main)
