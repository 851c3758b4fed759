"""Lists the trainings in the store: their factors, differences and progress."""

import os
import re
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from micro_transformer import disk
from micro_transformer.config.choices import choices_of, read_choice
from micro_transformer.config.groups import TRAINED_GROUPS
from micro_transformer.config.neutral import without_neutral
from micro_transformer.records.run_record import leaves
from micro_transformer.store.checkpoints import FACTORS, Damaged, Entry
from micro_transformer.store.code_digest import code_digests
from micro_transformer.store.contents import progress_of

NAME = re.compile("[0-9a-f]{12}")  # folder name of a training


@dataclass(frozen=True)
class Stored:
    """A training in the store: its entry and its factors (config, code and data digests)."""

    entry: Entry
    factors: dict[str, Any]

    @property
    def name(self) -> str:
        return self.entry.fingerprint

    @property
    def seed(self) -> int | None:
        return self.factors["config"].get("seed")

    @property
    def size_bytes(self) -> int:
        """Bytes of all its files."""
        return size_of(self.entry.folder)

    @property
    def age_s(self) -> float:
        """Seconds since the training began, from a file's modification time: for display only."""
        return age_of(self.entry.folder)

    @cached_property
    def _newest(self) -> tuple[dict[str, Any] | None, str | None]:
        """(progress in the newest intact snapshot, reason why the finished one is unusable)."""
        fault = None
        if os.path.lexists(self.entry.final):
            try:
                return progress_of(self.entry.read()), None
            except Damaged as damage:
                fault = str(damage)
        for folder in self.entry.steps():
            with suppress(Damaged):
                return progress_of(self.entry.read_step(folder)), fault
        return None, fault

    @property
    def progress(self) -> dict[str, Any] | None:
        """Progress in the newest intact snapshot; None if there is none."""
        return self._newest[0]

    @property
    def fault(self) -> str | None:
        """Why the finished snapshot is unusable; None if it is intact or does not exist."""
        return self._newest[1]

    @property
    def state(self) -> str:
        """`running`, `damaged`, `trained`, `cut at step N` (interrupted), or `begun`."""
        if self.is_locked():
            return "running"
        if self.fault:
            return "damaged"
        if self.entry.is_complete():
            return "trained"
        steps = self.entry.steps()
        return f"cut at step {int(steps[0].name)}" if steps else "begun"

    def is_locked(self) -> bool:
        """Whether a process runs this training now."""
        return disk.is_locked(self.entry.lock)

    def starts_from(self, other: "Stored") -> bool:
        """Whether its initial weights are those of the other training."""
        start, base, code = (
            self.factors["config"].get("origin"),
            other.factors,
            self.factors["code"],
        )
        if start is None or not self.factors["data"].endswith(base["data"]):
            return False
        is_same_code = all(code.get(module) == was for module, was in base["code"].items())
        return is_same_code and {k: start[k] for k in start if k != "scaling"} == base["config"]

    def is_stale(self) -> bool:
        """Whether the code it depends on has changed, so that no new job can use it."""
        code = self.factors["code"]
        now = code_digests(code)
        return any(now.get(module) != was for module, was in code.items())


def stored(root: Path) -> list[Stored]:
    """All trainings in the store, oldest first. Other folders are ignored."""
    found = [s for folder in _folders(root) if (s := stored_in(folder)) is not None]
    return sorted(found, key=lambda s: -s.age_s)


def stored_in(folder: Path) -> Stored | None:
    """The training in the folder; None unless the folder's name is the hash of its factors."""
    if folder.is_symlink() or not folder.is_dir():
        return None
    entry = Entry(folder.parent, folder.name)
    try:
        return Stored(entry, entry.factors())
    except Damaged:
        return None


def damaged(root: Path) -> list[tuple[Path, str]]:
    """(folder, reason) of each folder named like a training whose factors.json is damaged."""
    found = []
    for folder in _folders(root):
        if NAME.fullmatch(folder.name) and os.path.lexists(folder / FACTORS):
            try:
                Entry(root, folder.name).factors()
            except Damaged as damage:
                found.append((folder, str(damage)))
    return found


def size_of(folder: Path) -> int:
    """Total bytes of all files below the folder; files deleted meanwhile count 0."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += os.lstat(os.path.join(place, name)).st_size
    return total


def age_of(folder: Path) -> float:
    """Seconds since the training began; 0 if its folder is gone."""
    try:
        return max(0.0, time.time() - (folder / FACTORS).lstat().st_mtime)
    except OSError:
        return 0.0


def _folders(root: Path) -> list[Path]:
    return sorted(p for p in root.iterdir() if p.is_dir()) if os.path.lexists(root) else []


def differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """The differences between two trainings' factors, one line each: knobs, modules, data."""
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
    """The training with the fewest differences to the factors; None if there are none."""
    ranked = sorted(others, key=lambda s: len(differences(factors, s.factors)))
    return ranked[0] if ranked else None


def choices_in_words(config: dict[str, Any]) -> str:
    """The nearest choice of each group with its changed knobs, as in `model=tiny posenc=rope
    train=smoke[steps=40]`."""
    known = [group for group in TRAINED_GROUPS if isinstance(config.get(group), dict)]
    return " ".join(f"{group}={_nearest_choice(group, config[group])}" for group in known)


def _nearest_choice(group: str, knobs: dict[str, Any]) -> str:
    knobs = _own(group, knobs)  # as new fingerprints leave neutral ones out
    ranked = []
    for choice in choices_of(group):
        file = read_choice(group, choice)
        meant = _own(group, file)
        changed = [
            key
            for key in dict.fromkeys((*knobs, *meant))
            if knobs.get(key, ...) != meant.get(key, ...) and file.get(key) != "auto"
        ]
        ranked.append((len(changed), choice, changed))
    count, choice, changed = min(ranked)
    if not count:
        return choice
    words = ",".join(f"{key}={knobs.get(key)}" for key in changed[:2])
    return f"{choice}[{words}{f',+{count - 2}' if count > 2 else ''}]"


def _own(group: str, knobs: dict[str, Any]) -> dict[str, Any]:
    """The knobs that are not neutral."""
    return without_neutral({group: knobs}).get(group, {})


def _shown(leaf: dict[str, Any], key: str) -> str:
    return str(leaf[key]) if key in leaf else "absent"
