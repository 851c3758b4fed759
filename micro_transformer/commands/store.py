"""python -m micro_transformer.store list | explain | prune: inspects and prunes stored trainings.

A folder counts as a training only if its name is the hash of its factors.json; anything else in the
store is left alone. The base of a fine-tuning is kept as long as the fine-tuning is, since other
seeds start from the same base; both may be pruned at once.
"""

import fcntl
import re
import shutil
import sys
from collections.abc import Collection, Iterator, Set
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from micro_transformer import disk, temporary_files
from micro_transformer.commands.places import store_flag, training_at
from micro_transformer.config.choices import Unreadable
from micro_transformer.config.groups import TRAIN_FACTORS
from micro_transformer.config.neutral import without_neutral
from micro_transformer.console import Argument, Flag, Parser
from micro_transformer.records import record_files, run_record
from micro_transformer.runs.sweep_state import in_words
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
from micro_transformer.store.checkpoints import Damaged
from micro_transformer.wording import _, plural

OURS = {"factors.json", "training.json", "final", "steps", "lock", "needed", "damaged"}
LEFT = re.compile(r"\.[0-9a-f]{12}\.pruned")  # left by a killed prune of an earlier version
SHOWN_DIFFERENCES = 12


class Unknown(ValueError):
    """Wrong usage: no such training, or nothing to prune was given."""


def list_text(root: Path) -> str:
    """Table of all trainings in the store, oldest first, then the reasons of damaged ones."""
    titles = (_("fingerprint"), _("state"), _("val loss"), "MB", _("age"), _("seed"), _("choices"))
    rows = [titles]
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
        return _("{store}: no training is stored", store=root)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
    return "\n".join([*lines, *faults])


def _in_mb(size: int) -> str:
    return f"{size / 1e6:.1f}"


def explain(root: Path, what: Path, other: Path | None) -> str:
    """The differences between a training (named by its path or by a job's folder) and `other`;
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
            return _("{name}: no other training is stored in {store}", name=name, store=root)
        name2, factors2 = near.name, near.factors
    lines = differences(factors, factors2)
    if not lines:
        return _("{name} and {other}: the same training", name=name, other=name2)
    few = lines[:SHOWN_DIFFERENCES]
    more = [_("and {n} more", n=len(lines) - len(few))] if len(lines) > len(few) else []
    pair = f"{name} | {name2}" if other else _("{name} | nearest: {other}", name=name, other=name2)
    title = plural(len(lines), "{pair}: {n} difference", "{pair}: {n} differences", pair=pair)
    return "\n  ".join([title, *few, *more])


def _factors_of(root: Path, what: Path) -> tuple[str, dict[str, Any]]:
    """(fingerprint, factors) of a stored training, or of the training in a job's record."""
    entry = training_at(what, root)
    if (found := stored_in(entry.folder)) is not None:
        return found.name, found.factors
    if entry.folder.parent == root.resolve() and entry.folder.is_dir():
        entry.factors()  # Damaged says why
    folder = what.parent if what.name == record_files.RECORD else what
    try:
        record = record_files.read(folder / record_files.RECORD)
    except (OSError, run_record.NotARecord):
        rule = _("{path}: neither a training in {store} nor a job's folder", path=what, store=root)
        raise Unknown(rule + "; " + _("see {line}", line=parser().line + " list")) from None
    name = str(record.fingerprints.get("train"))
    if (found := stored_in(root / name)) is not None:
        return name, found.factors
    config = {key: record.config[key] for key in TRAIN_FACTORS if key in record.config}
    code = {k: v for k, v in record.fingerprints.get("code", {}).items() if isinstance(v, str)}
    data = record.fingerprints.get("data")
    return name, {"config": without_neutral(config), "code": code, "data": data}


@dataclass(frozen=True)
class Prunable:
    """A training selected for pruning, the reason, and the objection, if it must be kept."""

    stored: Stored
    size: int  # bytes
    why: str
    but: str

    def line(self) -> str:
        """One line: fingerprint, size in MB, and the reason to delete or keep it."""
        reason = _("kept: {why}", why=self.but) if self.but else self.why
        return f"{self.stored.name}  {self.size / 1e6:8.1f} MB  {reason}"


def prunable(root: Path, asked: Any, names: Collection[str]) -> list[Prunable]:
    """The trainings that are named or match the flags, including those that must be kept."""
    everything = stored(root)
    found = list(_matching(everything, asked, names))
    while bases := {i: why for i, p in enumerate(found) if (why := _needed(p, found, everything))}:
        found = [replace(p, but=bases.get(i, p.but)) for i, p in enumerate(found)]
    return found


def _needed(p: Prunable, found: list[Prunable], everything: list[Stored]) -> str:
    """Why a base must be kept that nothing else keeps: a training that stays starts from it."""
    going = {other.stored.name for other in found if not other.but}
    stay = [s.name for s in everything if s.name not in going and s.starts_from(p.stored)]
    if p.but or not stay:
        return ""
    return _("{name} starts from its weights; prune that as well", name=stay[0])


def _matching(everything: list[Stored], asked: Any, names: Collection[str]) -> Iterator[Prunable]:
    for s in everything:
        reasons = [
            _("named") * (s.name in names),
            _("code has changed since") * (asked.stale and s.is_stale()),
            _("unfinished") * (asked.unfinished and not s.entry.is_complete()),
            _("old") * (asked.older_than is not None and s.age_s > asked.older_than * 86400),
        ]
        if why := ", ".join(filter(None, reasons)):
            yield Prunable(s, s.size_bytes, why, _objection(s))


def _objection(s: Stored) -> str:
    """Why a training must be kept; empty if it may be deleted."""
    strange = sorted(p.name for p in s.entry.folder.iterdir() if not _is_ours(p.name))
    if strange:
        return _("contains {name}, not written by the lab", name=f"{strange[0]!r:.60}")
    if s.is_locked():
        return _("a process is training it")
    is_needed = disk.is_locked(s.entry.needed, fcntl.LOCK_EX)
    return _("a running job needs it") if is_needed else ""


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


def _prune(root: Path, asked: Any) -> str:
    wrong = dict((folder.name, why) for folder, why in damaged(root))
    names = list(_named(root, asked.training, {s.name for s in stored(root)} | wrong.keys()))
    if not (names or asked.stale or asked.unfinished or asked.older_than is not None):
        cure = _("name trainings, or add --stale, --unfinished or --older-than DAYS")
        raise Unknown(_("prune: selects nothing; {cure}", cure=cure))
    wanted = prunable(root, asked, names)
    chosen = [p for p in wanted if not p.but]
    lines = [p.line() for p in wanted]
    lines += [f"{n}  " + _("kept: {why}", why=wrong[n]) for n in names if n in wrong]
    if not asked.yes:
        said = plural(
            len(chosen),
            "{n} training, {mb} MB; nothing was deleted",
            "{n} trainings, {mb} MB; nothing was deleted",
            mb=_mb(chosen),
        )
        lines.append(said)
        return "\n".join([*lines, _("add --yes to delete them")] if chosen else lines)
    _clear(root)
    done = [p for p in chosen if remove(p.stored)]
    kept = [p.stored.name for p in chosen if p not in done]
    lines += [f"{name}  " + _("kept: {why}", why=_("a job has begun to need it")) for name in kept]
    said = plural(
        len(done), "{n} training deleted, {mb} MB", "{n} trainings deleted, {mb} MB", mb=_mb(done)
    )
    return "\n".join([*lines, said])


def _named(root: Path, paths: list[Path], known: Set[str]) -> Iterator[str]:
    """The fingerprints of the trainings that the paths name; raises Unknown or Damaged."""
    for path in paths:
        entry = training_at(path, root)
        if entry.fingerprint not in known or entry.folder.parent != root.resolve():
            raise Unknown(_("{path}: no training in {store}", path=path, store=root))
        yield entry.fingerprint


def _mb(chosen: list[Prunable]) -> str:
    return _in_mb(sum(p.size for p in chosen))


def _clear(root: Path) -> None:
    """Leftovers of killed commands are deleted from the store."""
    temporary_files.remove_dead([root])
    for folder in root.iterdir():
        if LEFT.fullmatch(folder.name):
            temporary_files.remove(folder)


def parser() -> Parser:
    """The command's grammar."""
    training = _("its folder, or the first letters of its fingerprint")
    explaining = Parser(
        "explain",
        _("Why a training was not one of those stored before."),
        [
            Argument("TRAINING", f"{training}; {_('or the folder of a job that uses it')}"),
            Argument("OTHER", _("to compare with; default: the most similar earlier one"), "?"),
        ],
    )
    pruning = Parser(
        "prune",
        _("Lists the trainings that would be deleted; deletes them with --yes."),
        [Argument("TRAINING", training, "*")],
        [
            Flag("--stale", _("those trained by code that has changed since")),
            Flag("--unfinished", _("those interrupted and not resumed")),
            Flag("--older-than", _("those of an age above DAYS"), "DAYS", float),
            Flag("--yes", _("delete what is listed")),
        ],
    )
    listing = Parser("list", _("Every training: choices, validation loss, size, age."))
    about = _("Lists, explains and prunes stored trainings; other folders are left alone.")
    return Parser("store", about, (), [store_flag()], actions=[listing, explaining, pruning])


@disk.one_line
def main(words: list[str] | None = None) -> int:
    """Exit code: 0 done, 2 no such training or wrong usage, 3 training damaged or I/O error."""
    asked = parser().parse(words)
    try:
        if asked.action == "list":
            print(list_text(asked.store))
        elif asked.action == "explain":
            print(explain(asked.store, asked.training, asked.other))
        else:
            print(_prune(asked.store, asked))
    except (Unknown, Damaged, Unreadable) as error:
        print(_("error: {fault}", fault=error), file=sys.stderr)
        return 2 if isinstance(error, Unknown) else disk.BAD_IO
    return 0
