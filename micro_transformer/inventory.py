"""Trainings in the store: what they depend on, what tells them apart, how far they came."""

import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from micro_transformer import schema
from micro_transformer.fingerprint import code_digests, digest
from micro_transformer.results import leaves
from micro_transformer.store import Damaged, Entry, read_snapshot

SHOWN = ("model", "posenc", "ffn", "task", "train")  # groups that a line of the list names


@dataclass(frozen=True)
class Stored:
    """A training in the store: its folder and what it depends on."""

    entry: Entry
    factors: dict[str, Any]

    @property
    def name(self) -> str:
        return self.entry.fingerprint

    @property
    def seed(self) -> int:
        return self.factors["config"]["seed"]

    @property
    def size_bytes(self) -> int:
        """Bytes of all its files."""
        return sum(p.stat().st_size for p in self.entry.folder.rglob("*") if p.is_file())

    @property
    def age_s(self) -> float:
        """Seconds since it was begun, by the clock of the file system: to read, not to rely on."""
        return max(0.0, time.time() - (self.entry.folder / "factors.json").stat().st_mtime)

    @cached_property
    def progress(self) -> dict[str, Any] | None:
        """State of the newest whole snapshot; None when there is none."""
        for folder in (self.entry.final, *self.entry.steps()):
            try:
                return json.loads(read_snapshot(folder)["state.json"])["progress"]
            except (Damaged, KeyError, ValueError):
                continue
        return None

    @property
    def state(self) -> str:
        """`trained`, `running`, or how far it came before it was cut."""
        if self.entry.is_complete():
            return "trained"
        if self.is_locked():
            return "running"
        steps = self.entry.steps()
        return f"cut at step {int(steps[0].name)}" if steps else "begun"

    def is_locked(self) -> bool:
        """Whether a process is training it now."""
        if not self.entry.lock.exists():
            return False
        lock = FileLock(self.entry.lock)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return True
        lock.release()
        return False

    def is_stale(self) -> bool:
        """Whether code has changed since, so that no command of today would use it."""
        code = self.factors["code"]
        now = code_digests(code)
        return any(now.get(module) != was for module, was in code.items())


def stored(root: Path) -> list[Stored]:
    """Every training of the store, oldest first. Folders that are not ours are passed over."""
    folders = root.iterdir() if root.is_dir() else iter(())
    found = [s for folder in sorted(folders) if (s := stored_in(folder)) is not None]
    return sorted(found, key=lambda s: -s.age_s)


def stored_in(folder: Path) -> Stored | None:
    """The training in a folder, if the folder is named by the hash of its factors."""
    if folder.is_symlink() or not folder.is_dir():
        return None
    try:
        factors = json.loads((folder / "factors.json").read_bytes())
        ours = digest(factors) == folder.name and {"config", "code", "data"} <= set(factors)
    except (OSError, ValueError, TypeError):
        return None
    return Stored(Entry(folder.parent, folder.name), factors) if ours else None


def differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """What tells two trainings' factors apart, one line each: knobs, code modules, data."""
    a, b = dict(leaves(one["config"])), dict(leaves(other["config"]))
    lines = [
        f"config {key}: {_shown(a, key)} | {_shown(b, key)}"
        for key in dict.fromkeys((*a, *b))
        if a.get(key, ...) != b.get(key, ...)
    ]
    mine, theirs = one["code"], other["code"]
    for module in sorted({*mine, *theirs}):
        if module in mine and module in theirs and mine[module] != theirs[module]:
            lines.append(f"code {module} has changed")
        elif (module in mine) != (module in theirs):
            lines.append(f"code {module}: only the {'first' if module in mine else 'second'} uses")
    if one["data"] != other["data"]:
        lines.append(f"data: {one['data']} | {other['data']}")
    return lines


def nearest(factors: dict[str, Any], others: Iterable[Stored]) -> Stored | None:
    """The training with the fewest differences."""
    ranked = sorted(others, key=lambda s: len(differences(factors, s.factors)))
    return ranked[0] if ranked else None


def choices_in_words(config: dict[str, Any]) -> str:
    """`model=tiny posenc=rope train=smoke[steps=40]`: the nearest file of each group."""
    return " ".join(f"{group}={_nearest_choice(group, config[group])}" for group in SHOWN)


def _nearest_choice(group: str, knobs: dict[str, Any]) -> str:
    ranked = []
    for choice in schema.choices_of(group):
        file = schema.read_choice(group, choice)
        changed = [
            key
            for key in dict.fromkeys((*knobs, *file))
            if knobs.get(key, ...) != file.get(key, ...) and file.get(key) != "auto"
        ]
        ranked.append((len(changed), choice, changed))
    count, choice, changed = min(ranked)
    if not count:
        return choice
    words = ",".join(f"{key}={knobs.get(key)}" for key in changed[:2])
    return f"{choice}[{words}{f',+{count - 2}' if count > 2 else ''}]"


def _shown(leaf: dict[str, Any], key: str) -> str:
    return str(leaf[key]) if key in leaf else "absent"
