"""Trained models on disk: written atomically, hashed, verified at every load. No pickle.

    checkpoints/<train fingerprint>/
        factors.json               what the training depends on; its hash is the fingerprint
        training.json              training time in seconds and number of concurrent jobs
        steps/00000200/            the last two snapshots of an unfinished training
        final/                     weights.safetensors, state.json, manifest.json
        lock                       locked (exclusive) by the process that trains
        needed                     locked (shared) by the jobs that will use the training

A snapshot is a folder of files with a manifest: their sizes and SHA-256, the training they belong
to, the torch version and the manifest's own hash. It is built under a temporary name, then renamed,
so it is complete if it exists. safetensors cannot detect a flipped bit; the manifest can.
"""

import fcntl
import hashlib
import importlib.metadata
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from micro_transformer import disk, temporary_files
from micro_transformer.disk import DiskFull, Unreadable, write_file
from micro_transformer.hashing import digest
from micro_transformer.wording import _

__all__ = ["Damaged", "DiskFull", "Entry", "read_snapshot", "write_file", "write_snapshot"]
FORMAT = 2
KEPT_STEPS = 2
LARGEST_FILE = 4 << 30  # bytes per stored file
MANIFEST, FACTORS, NOTES = "manifest.json", "factors.json", "training.json"


class Damaged(Exception):
    """A stored file is missing, corrupted, or does not belong to this training."""

    status, exit_code = "failed", 3
    flags: tuple[str, ...] = ("stored training damaged",)


def write_snapshot(folder: Path, files: dict[str, bytes], owner: str = "") -> None:
    """The folder contains the files and their manifest, complete and synced to disk; on an error
    (CannotWrite) no partial folder remains. owner: fingerprint of the training."""
    temporary = temporary_files.temporary(folder)
    manifest = {
        "format": FORMAT,
        "training": owner,
        "torch": importlib.metadata.version("torch"),
        "bytes": {name: len(data) for name, data in files.items()},
        "sha256": {name: hashlib.sha256(data).hexdigest() for name, data in files.items()},
    }
    manifest["check"] = digest(manifest)
    with disk.naming(folder, sum(map(len, files.values()))):
        try:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
            for name, data in {**files, MANIFEST: _as_written(manifest)}.items():
                with disk.durable(temporary / name) as file:
                    file.write(data)
            disk.sync_folder(temporary)
            temporary_files.remove(folder)
            os.rename(temporary, folder)
            disk.sync_folder(folder.parent)
        except OSError:
            shutil.rmtree(temporary, ignore_errors=True)
            raise


def read_snapshot(folder: Path, owner: str | None = None) -> dict[str, bytes]:
    """Maps file name -> content, verified against the manifest; Damaged names the faulty file.
    owner: fingerprint that the manifest must contain; None: any."""
    manifest = _manifest(folder)
    if owner is not None and manifest["training"] != owner:
        raise Damaged(
            _(
                "{folder}: belongs to training {manifest!r:.60}, not {owner}",
                folder=folder,
                manifest=manifest["training"],
                owner=owner,
            )
        )
    sizes = manifest["bytes"]
    return {
        name: _checked(folder / name, sizes[name], expected)
        for name, expected in manifest["sha256"].items()
    }


def _manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a snapshot; raises Damaged if it is invalid or in another format."""
    path = folder / MANIFEST
    try:
        data = disk.read_bytes(path)
        manifest = disk.parse_json(data)
    except (OSError, Unreadable) as error:
        raise Damaged(_("{path}: missing or not readable", path=path)) from error
    version = manifest.get("format") if isinstance(manifest, dict) else None
    if version != FORMAT:
        raise Damaged(
            _(
                "{folder}: written in format {version!r:.20}, this version reads {format}",
                folder=folder,
                version=version,
                format=FORMAT,
            )
        )
    content = {key: value for key, value in manifest.items() if key != "check"}
    if manifest.get("check") != digest(content) or _as_written(manifest) != data:
        raise Damaged(_("{path}: damaged, its own hash is not the one written", path=path))
    sums, sizes = manifest.get("sha256"), manifest.get("bytes")
    if not (isinstance(sums, dict) and isinstance(sizes, dict) and sums.keys() == sizes.keys()):
        raise Damaged(_("{path}: does not say the size and SHA-256 of each file", path=path))
    if not all(isinstance(manifest.get(key), str) for key in ("training", "torch")):
        raise Damaged(_("{path}: does not say its training and version of torch", path=path))
    for name in sums:
        if Path(name).name != name or "\0" in name:
            raise Damaged(_("{path}: names a file outside its folder", path=path))
    return manifest


def _checked(path: Path, size: Any, expected: Any) -> bytes:
    """The file's content; raises Damaged unless it has this size and SHA-256."""
    try:
        if path.stat().st_size != size:
            raise Damaged(_("{path}: damaged, its size is not the one written", path=path))
        data = disk.read_bytes(path, LARGEST_FILE)
    except (OSError, Unreadable) as error:
        raise Damaged(_("{path}: missing or not readable", path=path)) from error
    if hashlib.sha256(data).hexdigest() != expected:
        raise Damaged(_("{path}: damaged, its SHA-256 is not the one written", path=path))
    return data


class Entry:
    """The folder of one training in the store."""

    def __init__(self, root: Path, fingerprint: str):
        self.folder = root / fingerprint
        self.fingerprint = fingerprint
        self.final = self.folder / "final"
        self.lock = self.folder / "lock"
        self.needed = self.folder / "needed"

    def is_complete(self) -> bool:
        """Whether a finished training exists; tests only that its manifest is there."""
        return (self.final / MANIFEST).is_file()

    def verify(self) -> bool:
        """Whether a finished training exists, with its hashes checked; Damaged if it is corrupt."""
        return os.path.lexists(self.final) and bool(self.read())

    def read(self) -> dict[str, bytes]:
        """Maps file name -> content of the finished training; raises Damaged if a file or
        factors.json fails its hash check."""
        self.factors()
        return read_snapshot(self.final, self.fingerprint)

    def read_step(self, folder: Path) -> dict[str, bytes]:
        """Maps file name -> content of an intermediate snapshot; Damaged if it is corrupt."""
        return read_snapshot(folder, self.fingerprint)

    def factors(self) -> dict[str, Any]:
        """What the training depends on (config, code and data digests); raises Damaged unless its
        hash is the fingerprint."""
        path = self.folder / FACTORS
        try:
            data = disk.read_bytes(path)
            factors = disk.parse_json(data)
        except OSError as error:
            raise Damaged(
                _("{path}: missing or not readable; give a folder of the store", path=path)
            ) from error
        except Unreadable as error:
            raise Damaged(f"{path}: damaged: {error}") from error
        if digest(factors) != self.fingerprint or _as_written(factors) != data:
            raise Damaged(_("{path}: damaged, its hash is not the name of its folder", path=path))
        if not _has_shape(factors):
            raise Damaged(_("{path}: does not say config, code and data of a training", path=path))
        return factors

    def other_torch(self) -> str | None:
        """One-line warning if the training used another torch version than this one, else None."""
        made, here = _manifest(self.final)["torch"], importlib.metadata.version("torch")
        if made == here:
            return None
        return f"{self.folder}: trained with torch {made:.20}, used with {here}: figures may differ"

    def set_aside(self) -> None:
        """The finished training is renamed to `damaged`, so that it can be trained again."""
        aside = self.folder / "damaged"
        with disk.naming(aside), suppress(FileNotFoundError):  # another process was faster
            temporary_files.remove(aside)
            os.rename(self.final, aside)

    def open(self, factors: dict[str, Any]) -> None:
        """The folder exists with its factors.json; temporary files of dead processes are deleted
        from it."""
        temporary_files.remove_dead((self.folder, self.folder / "steps"))
        write_file(self.folder / FACTORS, _as_written(factors))

    @contextmanager
    def held(self) -> Iterator[None]:
        """Context manager that protects the training from `store prune` by a shared lock; the
        system releases it if the process dies."""
        with disk.naming(self.folder):
            file = self._shared()
        with file:
            yield

    def _shared(self) -> BinaryIO:
        while True:
            with suppress(FileNotFoundError):  # pruned between two of these lines
                self.folder.mkdir(parents=True, exist_ok=True)
                file = open(self.needed, "ab")  # noqa: SIM115
                fcntl.flock(file, fcntl.LOCK_SH)
                with suppress(FileNotFoundError):
                    if os.path.samestat(os.fstat(file.fileno()), self.needed.stat()):
                        return file
                file.close()

    def note(self, facts: dict[str, Any]) -> None:
        """The facts are written to training.json; they are no part of the fingerprint."""
        write_file(self.folder / NOTES, json.dumps(facts).encode())

    def notes(self) -> dict[str, Any]:
        """The content of training.json; empty if it is missing or malformed."""
        try:
            facts = disk.read_json(self.folder / NOTES)
        except (OSError, Unreadable):
            return {}
        return facts if isinstance(facts, dict) else {}

    def steps(self) -> list[Path]:
        """Folders of the intermediate snapshots, newest first."""
        found = [p for p in (self.folder / "steps").glob("*") if re.fullmatch("[0-9]+", p.name)]
        return sorted((p for p in found if p.is_dir()), key=lambda p: int(p.name), reverse=True)

    def write_step(self, step: int, files: dict[str, bytes]) -> None:
        """The snapshot of `step` is stored; only the newest KEPT_STEPS snapshots remain."""
        write_snapshot(self.folder / "steps" / f"{step:08d}", files, self.fingerprint)
        for old in self.steps()[KEPT_STEPS:]:
            shutil.rmtree(old, ignore_errors=True)

    def finish(self, files: dict[str, bytes]) -> None:
        """The finished training is stored; its intermediate snapshots are deleted."""
        write_snapshot(self.final, files, self.fingerprint)
        shutil.rmtree(self.folder / "steps", ignore_errors=True)


def _as_written(content: Any) -> bytes:
    return json.dumps(content, indent=1, sort_keys=True).encode()


def _has_shape(factors: Any) -> bool:
    return (
        isinstance(factors, dict)
        and all(isinstance(factors.get(key), dict) for key in ("config", "code"))
        and all(isinstance(value, str) for value in factors["code"].values())
        and isinstance(factors.get("data"), str)
    )
