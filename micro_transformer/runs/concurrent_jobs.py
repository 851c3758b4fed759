"""Which jobs run on this machine now: a cost measured beside another job is no cost of its own."""

import os
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import psutil

SAMPLE_S = 0.2


def others(folder: Path, own: str = "") -> int:
    """Jobs of living processes in the folder, but `own`; marks that the dead left are removed."""
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
    """Whether the process that a mark names is still the one that made it."""
    try:
        pid, born, _ = mark.split("-")
        process = psutil.Process(int(pid))
        is_same = f"{process.create_time():.2f}" == born
        return is_same and process.status() != psutil.STATUS_ZOMBIE
    except (ValueError, psutil.Error):
        return False


class Presence:
    """While it is entered, other jobs on this machine see this one; `beside` is the most of them
    that ran at the same time."""

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
