"""Trained models on disk: written whole or not at all, hashed, checked at every load. No pickle.

    checkpoints/<train fingerprint>/
        factors.json               what the training depends on
        training.json              how long it took, and beside how many other jobs
        steps/00000200/            the last two states of a training under way
        final/                     weights.safetensors, state.json, manifest.json
        lock                       held by the process that trains

A snapshot is a folder of files and a manifest with their SHA-256. It is built under another name
and renamed into place, so that it is complete if it exists. safetensors itself detects no flipped
bit; the manifest does.
"""

import errno
import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

FORMAT = 1
KEPT_STEPS = 2


class Damaged(Exception):
    """A stored file is not what was written."""

    status, exit_code = "failed", 3


class DiskFull(Exception):
    """There was no room to write; what was stored before is untouched."""

    status, exit_code = "failed", 3


def write_file(path: Path, data: bytes) -> None:
    """path holds data, on disk, or is as it was before."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise _translated(error, path, len(data)) from error


def write_snapshot(folder: Path, files: dict[str, bytes]) -> None:
    """folder holds the files and their manifest, complete and on disk, or does not exist."""
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    sums = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    manifest = json.dumps({"format": FORMAT, "sha256": sums}, indent=1).encode()
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        for name, data in {**files, "manifest.json": manifest}.items():
            with open(temporary / name, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        _sync_folder(temporary)
        if folder.exists():
            shutil.rmtree(folder)
        os.rename(temporary, folder)
        _sync_folder(folder.parent)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise _translated(error, folder, sum(map(len, files.values()))) from error


def read_snapshot(folder: Path) -> dict[str, bytes]:
    """name -> content, each byte checked against the manifest; Damaged names the file."""
    try:
        manifest = json.loads((folder / "manifest.json").read_bytes())
        version, sums = manifest["format"], manifest["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Damaged(f"{folder / 'manifest.json'}: missing or not readable") from error
    if version != FORMAT:
        raise Damaged(f"{folder}: written in format {version}, this version reads {FORMAT}")
    files = {}
    for name, expected in sums.items():
        if Path(name).name != name:
            raise Damaged(f"{folder / 'manifest.json'}: names a file outside its folder")
        try:
            files[name] = (folder / name).read_bytes()
        except OSError as error:
            raise Damaged(f"{folder / name}: missing") from error
        if hashlib.sha256(files[name]).hexdigest() != expected:
            raise Damaged(f"{folder / name}: damaged, its SHA-256 is not the one written")
    return files


class Entry:
    """The place of one training in the store."""

    def __init__(self, root: Path, fingerprint: str):
        self.folder = root / fingerprint
        self.fingerprint = fingerprint
        self.final = self.folder / "final"
        self.lock = self.folder / "lock"

    def is_complete(self) -> bool:
        """Whether a finished training lies here, by its manifest."""
        return (self.final / "manifest.json").is_file()

    def verify(self) -> bool:
        """Whether a finished training lies here, every byte checked; Damaged when one differs."""
        return self.is_complete() and bool(read_snapshot(self.final))

    def set_aside(self) -> None:
        """The finished training is under another name, out of the way and not lost."""
        aside = self.folder / "damaged"
        shutil.rmtree(aside, ignore_errors=True)
        os.rename(self.final, aside)

    def open(self, factors: dict[str, Any]) -> None:
        """The folder exists and says what the training depends on."""
        write_file(
            self.folder / "factors.json", json.dumps(factors, indent=1, sort_keys=True).encode()
        )

    def note(self, facts: dict[str, Any]) -> None:
        """training.json holds the facts: how the training went, no part of what it is."""
        write_file(self.folder / "training.json", json.dumps(facts).encode())

    def notes(self) -> dict[str, Any]:
        """What was noted of the training; empty when nothing was."""
        try:
            facts = json.loads((self.folder / "training.json").read_bytes())
        except (OSError, ValueError):
            return {}
        return facts if isinstance(facts, dict) else {}

    def steps(self) -> list[Path]:
        """States of a training under way, newest first."""
        return sorted(
            (p for p in (self.folder / "steps").glob("[0-9]*") if p.is_dir()), reverse=True
        )

    def write_step(self, step: int, files: dict[str, bytes]) -> None:
        """The state at `step` is stored; of the older ones the last is kept."""
        write_snapshot(self.folder / "steps" / f"{step:08d}", files)
        for old in self.steps()[KEPT_STEPS:]:
            shutil.rmtree(old, ignore_errors=True)

    def finish(self, files: dict[str, bytes]) -> None:
        """The trained model is stored; the states on the way to it are gone."""
        write_snapshot(self.final, files)
        shutil.rmtree(self.folder / "steps", ignore_errors=True)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _translated(error: OSError, path: Path, need: int) -> Exception:
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return error
    place = next(p for p in (path, *path.parents) if p.exists())
    free = shutil.disk_usage(place).free
    return DiskFull(
        f"disk full: {path} needs {need / 1e6:.1f} MB, "
        f"{free / 1e6:.1f} MB free; make room and run again"
    )


if __name__ == "__main__":
    from micro_transformer.console import command

    command("micro_transformer.storekeeping:main")
