"""Temporary files and folders that name the process that makes them, so that those of killed
processes can be told and removed."""

import hashlib
import os
import re
import shutil
import socket
import threading
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path

import psutil

NAME = re.compile(r"\.(?P<name>.+)\.(?P<host>[0-9a-f]{8})-(?P<pid>\d+)-(?P<born>\d+)-\d+\.tmp")
LONGEST = 100  # letters of the name that a temporary one repeats
TOLERANCE_S = 5  # clocks are set while a process runs


def temporary(path: Path) -> Path:
    """A name next to the path that is this thread's own."""
    mark = f"{_mark(os.getpid())}-{threading.get_native_id()}"
    return path.with_name(f".{path.name[:LONGEST]}.{mark}.tmp")


def is_temporary(name: str) -> bool:
    """Whether a file name is one that `temporary` gives."""
    return NAME.fullmatch(name) is not None


def remove_dead(folders: Iterable[Path]) -> None:
    """The folders hold no temporary file or folder of a dead process of this machine."""
    for folder in folders:
        with suppress(OSError):
            for entry in os.scandir(folder):
                if _is_dead(entry.name):
                    remove(Path(entry.path))


def remove(path: Path) -> None:
    """Nothing is at the path, file or folder; what cannot be removed is left."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink(missing_ok=True)


def _is_dead(name: str) -> bool:
    """Whether a name was given by a process of this machine that has ended."""
    found = NAME.fullmatch(name)
    if found is None or found["host"] != _host():
        return False
    try:
        process = psutil.Process(int(found["pid"]))
        is_other = abs(process.create_time() - int(found["born"])) > TOLERANCE_S
        return is_other or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
    except (psutil.Error, OverflowError, ValueError):
        return False


@cache
def _mark(pid: int) -> str:
    """Machine, process and its start: unlike a process number alone, given once."""
    return f"{_host()}-{pid}-{psutil.Process(pid).create_time():.0f}"


@cache
def _host() -> str:
    try:
        machine = Path("/etc/machine-id").read_text()
    except OSError:
        machine = ""
    return hashlib.sha256(f"{socket.gethostname()} {machine}".encode()).hexdigest()[:8]
