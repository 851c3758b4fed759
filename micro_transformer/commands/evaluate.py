"""python -m micro_transformer.evaluate CHECKPOINT [--split val] [--json]: scores a trained model.

CHECKPOINT is a training's folder in the store, as checkpoints/1a2b3c4d5e6f, or the first letters of
its name. Hashes are checked before loading. The data must have been prepared. The score covers the
whole split, without label smoothing.
"""

import json
import math
import sys
from pathlib import Path
from typing import Any

from micro_transformer import disk
from micro_transformer.console import Parser
from micro_transformer.data.prepared import DataDamaged, DataMissing
from micro_transformer.machine import cuda_usable
from micro_transformer.store.checkpoints import FACTORS, Damaged, Entry

STORE = Path("checkpoints")  # where a fingerprint prefix is looked up


@disk.one_line
def main(words: list[str] | None = None) -> int:
    """Exit code: 0 done, 3 checkpoint or data unusable."""
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
        return disk.BAD_IO
    lines = (f"{name:<24} {value:.6g}" for name, value in found.items())
    plain = {name: value if math.isfinite(value) else None for name, value in found.items()}
    print(json.dumps(plain, allow_nan=False) if asked.json else "\n".join(lines))
    return 0


def score(checkpoint: Path, split: str, data_dir: str) -> dict[str, float]:
    """Maps `<split>/<metric>` -> value of the trained model over the split. Raises Damaged,
    DataMissing or DataDamaged."""
    entry = find(checkpoint)
    config: dict[str, Any] = {**entry.factors()["config"], "data": {"dir": data_dir}}
    entry.read()
    if difference := entry.other_torch():
        print(f"warning: {difference}", file=sys.stderr)
    config |= {"attention": {"kind": "Auto"}, "scaling": {"kind": "NoScaling"}}
    if not cuda_usable():
        config["device"] = "cpu"
    task, model = _rebuilt(entry, config)
    return {f"{split}/{name}": value for name, value in task.score(model, split).items()}


def _rebuilt(entry: Entry, config: dict[str, Any]) -> tuple[Any, Any]:
    """(task, model with trained weights) of a training; raises Damaged if this version of the lab
    cannot build it."""
    from micro_transformer.build import training
    from micro_transformer.runs import worker  # loads torch
    from micro_transformer.seeds import make_deterministic

    try:
        make_deterministic(config["train"]["threads"])
        task = training.task(config)
        return task, worker.load(config, entry, task)[0]
    except (Damaged, DataMissing, DataDamaged):
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:  # knobs of another version
        raise Damaged(
            f"{entry.folder}: this version cannot build it: {type(error).__name__}: {error}"
        ) from error


def find(checkpoint: Path) -> Entry:
    """The training named by a path: its folder, a link to it, its `final` folder, or a prefix of
    its fingerprint. Raises Damaged if a prefix is ambiguous; existence is not checked."""
    folder = checkpoint.resolve()
    folder = folder.parent if folder.name == "final" else folder
    if not folder.exists():
        places = [place for place in {folder.parent, STORE.resolve()} if place.is_dir()]
        near = [path for place in places for path in place.iterdir()]
        alike = [p for p in near if p.name.startswith(folder.name) and (p / FACTORS).is_file()]
        if len(alike) > 1:
            raise Damaged(f"{checkpoint}: {len(alike)} trainings begin so; give more letters")
        folder = alike.pop() if alike else folder
    return Entry(folder.parent, folder.name)
