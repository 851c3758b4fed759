"""python -m micro_transformer.store list | explain | prune: inspects and prunes stored trainings.

    list                          every training: choices, validation loss, size, age
    explain FP                    what tells a training from the nearest other one
    explain FP FP2                what tells two trainings apart
    explain multirun/demo/JOB     why this job's training was not one of those stored before
    prune --stale --unfinished --older-than DAYS [FP ...]    lists what would go; --yes deletes it

A folder counts as a training only if its name is the hash of its factors.json; anything else in the
store is left alone. The base of a fine-tuning can be pruned: the fine-tuned weights are stored
separately, and the base is trained again, with bit-identical weights, if a new job needs it.
"""

import argparse
import fcntl
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from micro_transformer import disk, temporary_files
from micro_transformer.config import schema
from micro_transformer.config.choices import Unreadable
from micro_transformer.console import Parser
from micro_transformer.records import record_files, run_record
from micro_transformer.runs.sweep_folder import in_words
from micro_transformer.store.catalog import (
    Stored,
    age_of,
    choices_in_words,
    damaged,
    differences,
    nearest,
    size_of,
    stored,
    stored_in,
)
from micro_transformer.store.checkpoints import Damaged, Entry

OURS = {"factors.json", "training.json", "final", "steps", "lock", "needed", "damaged"}
LEFT = re.compile(r"\.[0-9a-f]{12}\.pruned")  # left by a killed prune of an earlier version
SHOWN_DIFFERENCES = 12


class Unknown(ValueError):
    """Wrong usage: no such training, or nothing to prune was given."""


def list_text(root: Path) -> str:
    """Table of all trainings in the store, oldest first, then the reasons of damaged ones."""
    rows = [("fingerprint", "state", "val loss", "MB", "age", "seed", "choices")]
    faults = []
    for s in stored(root):
        best = (s.progress or {}).get("best")
        loss = f"{best:.4f}" if isinstance(best, float) and best < float("inf") else "-"
        size, age = _in_mb(s.size_bytes), in_words(s.age_s)
        words = choices_in_words(s.factors["config"])
        rows.append((s.name, s.state, loss, size, age, str(s.seed), words))
        faults += [s.fault] if s.fault else []
    for folder, why in damaged(root):
        size, age = _in_mb(size_of(folder)), in_words(age_of(folder))
        rows.append((folder.name, "damaged", "-", size, age, "-", "-"))
        faults.append(why)
    if len(rows) == 1:
        return f"{root}: no training is stored"
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
    return "\n".join([*lines, *faults])


def _in_mb(size: int) -> str:
    return f"{size / 1e6:.1f}"


def explain(root: Path, what: str, other: str | None) -> str:
    """The differences between a training (given directly or by a job's folder) and `other`;
    default: the most similar earlier one. Raises Unknown or Damaged."""
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
    """(fingerprint, factors) of a training in the store, or of the training in a job's record."""
    if Path(what).name == what and (found := stored_in(root / what)) is not None:
        return found.name, found.factors
    if Path(what).name == what and (root / what).is_dir():
        Entry(root, what).factors()  # Damaged says why
    folder = Path(what).parent if Path(what).name == record_files.RECORD else Path(what)
    try:
        record = record_files.read(folder / record_files.RECORD)
    except (OSError, run_record.NotARecord):
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
    """A training selected for pruning, the reason, and the objection, if it must be kept."""

    stored: Stored
    size: int  # bytes
    why: str
    but: str

    def line(self) -> str:
        """One line: fingerprint, size in MB, and the reason to delete or keep it."""
        reason = f"kept: {self.but}" if self.but else self.why
        return f"{self.stored.name}  {self.size / 1e6:8.1f} MB  {reason}"


def prunable(root: Path, asked: argparse.Namespace) -> Iterator[Prunable]:
    """The trainings that match the flags, including those that must be kept."""
    for s in stored(root):
        reasons = [
            "named" * (s.name in asked.fingerprints),
            "code has changed since" * (asked.stale and s.is_stale()),
            "unfinished" * (asked.unfinished and not s.entry.is_complete()),
            "old" * (asked.older_than is not None and s.age_s > asked.older_than * 86400),
        ]
        if why := ", ".join(filter(None, reasons)):
            yield Prunable(s, s.size_bytes, why, _objection(s))


def _objection(s: Stored) -> str:
    """Why a training must be kept; empty if it may be deleted."""
    strange = sorted(p.name for p in s.entry.folder.iterdir() if not _is_ours(p.name))
    if strange:
        return f"holds {strange[0]!r:.60}, which is not the lab's"
    if s.is_locked():
        return "a process is training it"
    return "a running job needs it" if disk.is_locked(s.entry.needed, fcntl.LOCK_EX) else ""


def _is_ours(name: str) -> bool:
    return name in OURS or temporary_files.is_temporary(name)


def remove(training: Stored) -> bool:
    """The training is deleted, unless a process trains or needs it now; returns whether it was."""
    with ExitStack() as stack:
        for path in (training.entry.needed, training.entry.lock):
            file = stack.enter_context(open(path, "ab"))
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
        gone = temporary_files.temporary(training.entry.folder)
        training.entry.folder.rename(gone)
    shutil.rmtree(gone)
    return True


def _prune(root: Path, asked: argparse.Namespace) -> str:
    wrong = dict((folder.name, why) for folder, why in damaged(root))
    known = {s.name for s in stored(root)} | wrong.keys()
    if strangers := [name for name in asked.fingerprints if name not in known]:
        raise Unknown(f"{strangers[0]}: no training in {root}")
    if not (asked.fingerprints or asked.stale or asked.unfinished or asked.older_than is not None):
        raise Unknown("prune what? give fingerprints, --stale, --unfinished or --older-than DAYS")
    wanted = list(prunable(root, asked))
    chosen = [p for p in wanted if not p.but]
    lines = [p.line() for p in wanted]
    lines += [f"{n}  kept: {wrong[n]}" for n in asked.fingerprints if n in wrong]
    if not asked.yes:
        lines.append(f"{_counted(chosen)}; nothing was deleted")
        return "\n".join([*lines, "add --yes to delete them"] if chosen else lines)
    _clear(root)
    done = [p for p in chosen if remove(p.stored)]
    lines += [f"{p.stored.name}  kept: a job has begun to need it" for p in chosen if p not in done]
    return "\n".join([*lines, f"{_counted(done, ' deleted')}"])


def _counted(chosen: list[Prunable], word: str = "") -> str:
    total = sum(p.size for p in chosen)
    return f"{len(chosen)} training{'s' * (len(chosen) != 1)}{word}, {total / 1e6:.1f} MB"


def _clear(root: Path) -> None:
    """Leftovers of killed commands are deleted from the store."""
    temporary_files.remove_dead([root])
    for folder in root.iterdir():
        if LEFT.fullmatch(folder.name):
            temporary_files.remove(folder)


@disk.one_line
def main(words: list[str] | None = None) -> int:
    """Exit code: 0 done, 2 no such training or wrong usage, 3 training damaged or I/O error."""
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
    except (Unknown, Damaged, Unreadable) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, Unknown) else disk.BAD_IO
    return 0
