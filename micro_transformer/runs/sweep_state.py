"""State of a sweep, read from its folder: its jobs, their progress, which process runs which.

    multirun/<sweep>/plan.json          the jobs of the last command
    multirun/<sweep>/<job>/lock         locked by the process that runs the job
                           holder.json  which process that is

The folder is the only state shared by workers, concurrent commands and machines.
"""

import json
import os
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from micro_transformer import disk
from micro_transformer.disk import write_file
from micro_transformer.records import record_files, run_record

PLAN, LOCK, HOLDER = "plan.json", "lock", "holder.json"
DONE, RUNNING, WAITING = "done", "running", "waiting"
PROBED_S = 0.02  # a process that only tests the lock holds it for a moment
LONGEST_NAME = 255  # bytes


@dataclass(frozen=True)
class Holder:
    """The process that runs a job."""

    pid: int
    host: str
    since: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} since {self.since}"


@contextmanager
def claim(folder: Path) -> Iterator[Holder | None]:
    """Context manager that locks the job's folder. Yields None if this process has the lock, else
    the process that has it; then the job must not be touched. CannotWrite: no folder possible."""
    with disk.naming(folder):
        folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=PROBED_S, poll_interval=PROBED_S / 4)
    except Timeout:
        yield holder_of(folder)
        return
    try:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        me = {"pid": os.getpid(), "host": socket.gethostname(), "since": now}
        write_file(folder / HOLDER, json.dumps(me).encode())
        yield None
    finally:
        (folder / HOLDER).unlink(missing_ok=True)
        lock.release()


def is_claimed(folder: Path) -> bool:
    """Whether a process runs the job now."""
    return disk.is_locked(folder / LOCK)


def holder_of(folder: Path) -> Holder:
    """The process named in holder.json; a placeholder if the file is missing or malformed."""
    try:
        match disk.read_json(folder / HOLDER):
            case {"pid": int(pid), "host": str(host), "since": str(since)}:
                return Holder(pid, host[:LONGEST_NAME], since[:LONGEST_NAME])
    except (OSError, disk.Unreadable):
        pass
    return Holder(0, "an unknown host", "now")


def write_plan(folder: Path, jobs: Iterable[Path]) -> None:
    """plan.json lists the jobs of this command."""
    names = [job.relative_to(folder).as_posix() for job in jobs]
    write_file(folder / PLAN, json.dumps({"jobs": names}, indent=1).encode())


def planned(folder: Path) -> list[Path]:
    """Folders of the jobs in plan.json; without a valid plan.json, all folders with a record."""
    try:
        match disk.read_json(folder / PLAN):
            case {"jobs": [*names]} if all(map(_is_name, names)):
                return [folder / name for name in names]
    except (OSError, disk.Unreadable):
        pass
    disk.need_listed(folder)
    return sorted(path.parent for path in folder.glob(f"*/{record_files.RECORD}"))


def _is_name(name: Any) -> bool:
    """Whether `name` is a valid folder name directly below the sweep's folder."""
    return (
        isinstance(name, str)
        and name not in ("", "..")
        and "\0" not in name
        and Path(name).name == name
        and len(os.fsencode(name)) <= LONGEST_NAME
    )


def read_record(folder: Path) -> run_record.RunRecord | None:
    """The job's record; None if it is missing or unreadable."""
    try:
        return record_files.read(folder / record_files.RECORD)
    except (OSError, run_record.NotARecord):
        return None


@dataclass(frozen=True)
class JobState:
    """State of one job: done, running, waiting, or the status of its failed record."""

    folder: Path
    state: str
    note: str = ""
    seconds: float = 0.0


def state_of(folder: Path) -> JobState:
    """State of a job, from its lock and its record."""
    if is_claimed(folder):
        return JobState(folder, RUNNING, str(holder_of(folder)))
    try:
        changed = (folder / record_files.RECORD).stat().st_mtime_ns
    except OSError:
        return JobState(folder, WAITING)
    return _recorded_state(folder, changed)


@cache
def _recorded_state(folder: Path, _changed: int) -> JobState:
    """State of a job from its record; cached per modification time, as sweeps poll it often."""
    record = read_record(folder)
    if record is None:
        return JobState(folder, WAITING)
    if record.status in (run_record.OK, run_record.INVALID):
        note = record.error or ""
        took = (record.seconds or 0.0) if record.status == run_record.OK else 0.0
        return JobState(folder, DONE, note, took)
    return JobState(folder, record.status, record.error or "", record.seconds or 0.0)


@dataclass(frozen=True)
class SweepStatus:
    """State of all jobs of a sweep."""

    jobs: list[JobState]

    @classmethod
    def of(cls, folder: Path) -> "SweepStatus":
        """State of the jobs in the folder's plan."""
        return cls([state_of(job) for job in planned(folder)])

    def count(self, state: str) -> int:
        """Number of jobs in a state: done, running or waiting."""
        return sum(job.state == state for job in self.jobs)

    @property
    def failed(self) -> list[JobState]:
        """Jobs that ended with a failure."""
        return [job for job in self.jobs if job.state not in (DONE, RUNNING, WAITING)]

    def eta_s(self) -> float | None:
        """Expected seconds until all jobs are done, from the mean time of those that ran; None if
        none ran. Running jobs count as half done."""
        known = [job.seconds for job in self.jobs if job.seconds]
        left = self.count(RUNNING) / 2 + self.count(WAITING)
        if not left:
            return 0.0
        return sum(known) / len(known) * left / max(1, self.count(RUNNING)) if known else None

    def line(self) -> str:
        """`7 of 12 done, 1 failed, 2 running, about 40 s left`."""
        parts = [f"{self.count(DONE)} of {len(self.jobs)} done"]
        parts += [f"{len(self.failed)} failed"] if self.failed else []
        parts += [f"{self.count(RUNNING)} running"] if self.count(RUNNING) else []
        left = self.eta_s()
        if left:
            parts.append(f"about {in_words(left)} left")
        elif left is None:
            parts.append("time left unknown")
        return ", ".join(parts)


def in_words(seconds: float) -> str:
    """`0.3 s`, `40 s`, `5 min`, `2.5 h`, `4 d`."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}" if unit == "h" else f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
