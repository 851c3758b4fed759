"""python -m micro_transformer.store list | explain | prune: what was trained, why, and what can go.

    list                          every training: choices, validation loss, size, age
    explain FP                    what tells a training from the nearest other one
    explain FP FP2                what tells two trainings apart
    explain multirun/demo/JOB     why this job's training was not one of those stored before
    prune --stale --unfinished --older-than DAYS [FP ...]    lists what would go; --yes deletes it

Only a folder that is named by the hash of the factors it holds is taken for a training. Anything
else in the store is left alone. A training that others started from may go: they hold weights of
their own, and it is trained again, to the same bits, when a new one asks for it.
"""

import argparse
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from micro_transformer import results, schema
from micro_transformer.console import Parser
from micro_transformer.inventory import (
    Stored,
    choices_in_words,
    differences,
    nearest,
    stored,
    stored_in,
)
from micro_transformer.sweepfolder import in_words

OURS = {"factors.json", "training.json", "final", "steps", "lock", "damaged"}
SHOWN_DIFFERENCES = 12


class Unknown(ValueError):
    """There is no such training; the text says what there is."""


def list_text(root: Path) -> str:
    """The store as a table, oldest first."""
    rows = [("fingerprint", "state", "val loss", "MB", "age", "seed", "choices")]
    for s in stored(root):
        best = (s.progress or {}).get("best")
        loss = f"{best:.4f}" if isinstance(best, float) and best < float("inf") else "-"
        size, age = f"{s.size_bytes / 1e6:.1f}", in_words(s.age_s)
        words = choices_in_words(s.factors["config"])
        rows.append((s.name, s.state, loss, size, age, str(s.seed), words))
    if len(rows) == 1:
        return f"{root}: no training is stored"
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def explain(root: Path, what: str, other: str | None) -> str:
    """What tells a training, or a job's training, from another or from the nearest one."""
    name, factors = _factors_of(root, what)
    if other is not None:
        name2, factors2 = _factors_of(root, other)
    else:
        rest = [s for s in stored(root) if s.name != name]
        before = rest
        if (own := stored_in(root / name)) is not None:
            before = [s for s in rest if s.age_s >= own.age_s] or rest
        near = nearest(factors, before)
        if near is None:
            return f"{name}: nothing else is stored in {root}, so it had to be trained"
        name2, factors2 = near.name, near.factors
    lines = differences(factors, factors2)
    if not lines:
        return f"{name} and {name2}: the same training"
    few = lines[:SHOWN_DIFFERENCES]
    more = [f"and {len(lines) - len(few)} more"] if len(lines) > len(few) else []
    plural = "s" * (len(lines) != 1)
    title = f"{name} | {'' if other else 'nearest: '}{name2}: {len(lines)} difference{plural}"
    return "\n  ".join([title, *few, *more])


def _factors_of(root: Path, what: str) -> tuple[str, dict[str, Any]]:
    """(fingerprint, factors) of a training in the store or of the one a job's record names."""
    if Path(what).name == what and (found := stored_in(root / what)) is not None:
        return found.name, found.factors
    folder = Path(what).parent if Path(what).name == results.RECORD else Path(what)
    try:
        record = results.read(folder / results.RECORD)
    except (OSError, results.NotARecord):
        raise Unknown(
            f"{what}: neither a training in {root} nor a job's folder; "
            f"see python -m micro_transformer.store list"
        ) from None
    name = str(record.fingerprints.get("train"))
    if (found := stored_in(root / name)) is not None:
        return name, found.factors
    config = {key: record.config[key] for key in schema.TRAIN_FACTORS if key in record.config}
    code = {k: v for k, v in record.fingerprints.get("code", {}).items() if isinstance(v, str)}
    return name, {"config": config, "code": code, "data": record.fingerprints.get("data")}


@dataclass(frozen=True)
class Prunable:
    """A training that may go, and why."""

    stored: Stored
    why: str


def prunable(root: Path, asked: argparse.Namespace) -> list[Prunable]:
    """The trainings that were asked for; one that runs or holds strange files is never among."""
    found = []
    for s in stored(root):
        reasons = [
            "named" * (s.name in asked.fingerprints),
            "code has changed since" * (asked.stale and s.is_stale()),
            "unfinished" * (asked.unfinished and not s.entry.is_complete()),
            "old" * (asked.older_than is not None and s.age_s > asked.older_than * 86400),
        ]
        why = ", ".join(filter(None, reasons))
        strange = [p.name for p in s.entry.folder.iterdir() if not _is_ours(p.name)]
        if why and not strange and not s.is_locked():
            found.append(Prunable(s, why))
    return found


def _is_ours(name: str) -> bool:
    return name in OURS or (name.startswith(".") and name.endswith(".tmp"))


def remove(training: Stored) -> bool:
    """The training is gone, unless a process has begun to work on it meanwhile."""
    lock = FileLock(training.entry.lock)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    gone = training.entry.folder.with_name(f".{training.name}.pruned")
    training.entry.folder.rename(gone)
    lock.release()
    shutil.rmtree(gone)
    return True


def _prune(root: Path, asked: argparse.Namespace) -> str:
    known = {s.name for s in stored(root)}
    if strangers := [name for name in asked.fingerprints if name not in known]:
        raise Unknown(f"{strangers[0]}: no training in {root}")
    chosen = prunable(root, asked)
    if not (asked.fingerprints or asked.stale or asked.unfinished or asked.older_than is not None):
        raise Unknown("prune what? give fingerprints, --stale, --unfinished or --older-than DAYS")
    total = sum(p.stored.size_bytes for p in chosen)
    lines = [f"{p.stored.name}  {p.stored.size_bytes / 1e6:8.1f} MB  {p.why}" for p in chosen]
    plural = "s" * (len(chosen) != 1)
    if not asked.yes:
        lines.append(f"{len(chosen)} training{plural}, {total / 1e6:.1f} MB; nothing was deleted")
        return "\n".join([*lines, "add --yes to delete them"] if chosen else lines)
    done = sum(remove(p.stored) for p in chosen)
    return "\n".join([*lines, f"{done} training{plural} deleted, {total / 1e6:.1f} MB"])


def main(words: list[str] | None = None) -> int:
    """Exit code: 0 done, 2 there is no such training."""
    parser = Parser(
        prog="python -m micro_transformer.store",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--dir", type=Path, default=Path("checkpoints"), help="the store")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="every training")
    explaining = commands.add_parser("explain", help="why it was trained")
    explaining.add_argument("what", help="a fingerprint or a job's folder")
    explaining.add_argument("other", nargs="?", help="another; default: the nearest")
    pruning = commands.add_parser("prune", help="list, and with --yes delete, trainings")
    pruning.add_argument("fingerprints", nargs="*")
    pruning.add_argument("--stale", action="store_true", help="code has changed since")
    pruning.add_argument("--unfinished", action="store_true", help="cut and not resumed")
    pruning.add_argument("--older-than", type=float, metavar="DAYS")
    pruning.add_argument("--yes", action="store_true", help="delete what is listed")
    asked = parser.parse_args(words)
    try:
        if asked.command == "list":
            print(list_text(asked.dir))
        elif asked.command == "explain":
            print(explain(asked.dir, asked.what, asked.other))
        else:
            print(_prune(asked.dir, asked))
    except Unknown as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0
