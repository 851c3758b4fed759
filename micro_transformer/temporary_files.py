"""Temporary files and folders named after the process that creates them, so that leftovers of
killed processes can be recognized and deleted."""

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
LONGEST = 100  # characters of the original name kept in the temporary one
TOLERANCE_S = 5  # of process start times: the clock may be adjusted while a process runs


def temporary(path: Path) -> Path:
    """A path in the same folder, unique to this thread, for a temporary version of `path`."""
    mark = f"{_mark(os.getpid())}-{threading.get_native_id()}"
    return path.with_name(f".{path.name[:LONGEST]}.{mark}.tmp")


def is_temporary(name: str) -> bool:
    """Whether a file name has the form that `temporary` makes."""
    return NAME.fullmatch(name) is not None


def remove_dead(folders: Iterable[Path]) -> None:
    """Temporary files and folders of dead processes of this machine are deleted from `folders`
    (not from their subfolders)."""
    for folder in folders:
        with suppress(OSError):
            for entry in os.scandir(folder):
                if _is_dead(entry.name):
                    remove(Path(entry.path))


def remove(path: Path) -> None:
    """The file or folder is deleted, as far as permissions allow; errors are ignored."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink(missing_ok=True)


def _is_dead(name: str) -> bool:
    """Whether the name belongs to a process of this machine that has ended."""
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
    """Machine, PID and start time of a process: unlike a PID alone, never reused."""
    return f"{_host()}-{pid}-{psutil.Process(pid).create_time():.0f}"


@cache
def _host() -> str:
    try:
        machine = Path("/etc/machine-id").read_text()
    except OSError:
        machine = ""
    return hashlib.sha256(f"{socket.gethostname()} {machine}".encode()).hexdigest()[:8]
