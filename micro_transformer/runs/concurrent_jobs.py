"""Detects other jobs that run on this machine, since concurrent jobs disturb timings.

Each running job keeps a marker file, named by its process, in a folder shared by the user's jobs.
"""

import os
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import psutil

SAMPLE_S = 0.2


def others(folder: Path, own: str = "") -> int:
    """Number of markers of live processes in the folder, `own` excluded; stale ones are deleted."""
    count = 0
    with suppress(OSError):
        for mark in folder.iterdir():
            if mark.name == own:
                continue
            if _lives(mark.name):
                count += 1
            else:
                mark.unlink(missing_ok=True)
    return count


def _lives(mark: str) -> bool:
    """Whether the process that wrote the marker is still alive (same PID and same start time)."""
    try:
        pid, born, _ = mark.split("-")
        process = psutil.Process(int(pid))
        is_same = f"{process.create_time():.2f}" == born
        return is_same and process.status() != psutil.STATUS_ZOMBIE
    except (ValueError, psutil.Error):
        return False


class Presence:
    """Context manager that makes this job visible to other jobs on this machine. `beside`: the
    largest number of concurrent jobs seen, sampled every SAMPLE_S seconds."""

    def __init__(self, folder: Path | None = None):
        self.folder = folder or Path(tempfile.gettempdir()) / f"micro-transformer-{os.getuid()}"
        self.beside = 0
        self._over = threading.Event()
        self._watch = threading.Thread(target=self._look, daemon=True)
        born = psutil.Process().create_time()
        self.mark = f"{os.getpid()}-{born:.2f}-{id(self):x}"

    def __enter__(self) -> "Presence":
        with suppress(OSError):
            self.folder.mkdir(mode=0o700, exist_ok=True)
            (self.folder / self.mark).touch()
        self.beside = others(self.folder, self.mark)
        self._watch.start()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._watch.join()
        self.beside = max(self.beside, others(self.folder, self.mark))
        with suppress(OSError):
            (self.folder / self.mark).unlink(missing_ok=True)

    def _look(self) -> None:
        while not self._over.wait(SAMPLE_S):
            self.beside = max(self.beside, others(self.folder, self.mark))
