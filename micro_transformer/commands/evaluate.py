"""python -m micro_transformer.evaluate TRAINING [--split val] [--json]: scores a trained model.

TRAINING is its folder in the store, such as checkpoints/1a2b3c4d5e6f, or the first letters of its
fingerprint. Hashes are checked before loading. The data must have been prepared.
"""

import json
import math
import sys
from typing import Any

from micro_transformer import disk
from micro_transformer.commands.places import data_flag, store_flag, training_at
from micro_transformer.config.neutral import with_neutral
from micro_transformer.console import Argument, Flag, Parser
from micro_transformer.data.prepared_dataset import DataDamaged, DataMissing
from micro_transformer.machine import cuda_usable
from micro_transformer.store.checkpoints import Damaged, Entry
from micro_transformer.wording import _


def parser() -> Parser:
    """The command's grammar."""
    return Parser(
        "evaluate",
        _("Scores a trained model over a whole split of its data, without label smoothing."),
        [Argument("TRAINING", _("its folder in the store, or the first letters of its name"))],
        [
            Flag("--split", _("of its data; default: val"), "NAME", default="val"),
            data_flag(),
            store_flag(),
            Flag("--json", _("print one JSON object")),
        ],
    )


@disk.one_line
def main(words: list[str] | None = None) -> int:
    """Exit code: 0 done, 2 wrong usage, 3 training or data unusable."""
    asked = parser().parse(words)
    try:
        found = score(training_at(asked.training, asked.store), asked.split, asked.data)
    except (Damaged, DataMissing, DataDamaged, ValueError) as error:
        print(_("error: {fault}", fault=error), file=sys.stderr)
        return disk.BAD_IO
    lines = (f"{name:<24} {value:.6g}" for name, value in found.items())
    plain = {name: value if math.isfinite(value) else None for name, value in found.items()}
    print(json.dumps(plain, allow_nan=False) if asked.json else "\n".join(lines))
    return 0


def score(entry: Entry, split: str, data_dir: str) -> dict[str, float]:
    """Maps `<split>/<metric>` -> value of the trained model over the split. Raises Damaged,
    DataMissing or DataDamaged."""
    config: dict[str, Any] = with_neutral(entry.factors()["config"])
    config["data"] = {"dir": data_dir}
    entry.read()
    if difference := entry.other_torch():
        print(_("warning: {what}", what=difference), file=sys.stderr)
    config |= {"attention": {"kind": "Auto"}, "scaling": {"kind": "NoScaling"}}
    if not cuda_usable():
        config["device"] = "cpu"
    task, model = _rebuilt(entry, config)
    return {f"{split}/{name}": value for name, value in task.score(model, split).items()}


def _rebuilt(entry: Entry, config: dict[str, Any]) -> tuple[Any, Any]:
    """(task, model with trained weights) of a training; raises Damaged if this version of the lab
    cannot build it."""
    from micro_transformer.build import training
    from micro_transformer.runs import trained_net  # loads torch
    from micro_transformer.seeds import make_deterministic

    try:
        make_deterministic(config["train"]["threads"])
        task = training.build_task(config)
        return task, trained_net.load(config, entry, task)[0].net
    except (Damaged, DataMissing, DataDamaged):
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:  # knobs of another version
        why = f"{type(error).__name__}: {error}"
        text = _("{folder}: this version cannot build it: {why}", folder=entry.folder, why=why)
        raise Damaged(text) from error
