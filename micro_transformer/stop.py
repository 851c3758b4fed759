"""Graceful shutdown on signals: a command ends within LIMIT_S seconds, with code 128 + signal.

Imports little, since a command installs its handlers before it loads anything else.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from micro_transformer.wording import _

TWICE_S = 0.5  # signals within this time count as one
LIMIT_S = 9.5  # maximum time from a signal to the end of the command


def signals() -> tuple[signal.Signals, ...]:
    """Signals that ask a process to end: `kill`, Ctrl-C, a closed terminal, Ctrl-backslash."""
    return signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT


class Interrupted(SystemExit):
    """Work was stopped gracefully by a signal; `code` is 128 + signal number."""

    def __init__(self, code: int):
        super().__init__(code)

    def __str__(self) -> str:
        return signal.Signals(int(str(self.code)) - 128).name


class StopRequest:
    """Stop flag set by a signal; work polls it between steps. A second signal ends the process at
    once, unless it comes within TWICE_S: a signal to a process group reaches a child twice, once
    directly and once forwarded by its parent.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._first = 0.0

    def install(self, numbers: Iterable[int] = (signal.SIGTERM,)) -> "StopRequest":
        """Signal handlers are installed that set this request."""
        for number in numbers:
            signal.signal(number, self.note)
        return self

    def note(self, number: int, _frame: Any = None) -> None:
        """Signal handler: sets the request, or ends the process at a second signal."""
        now = time.monotonic()
        if self.number is None:
            self.number, self._first = number, now
            self.heard(number)
        elif now - self._first > TWICE_S:
            os._exit(128 + number)

    def heard(self, number: int) -> None:
        """Hook called once, at the first signal."""

    def check(self) -> None:
        """Raises Interrupted if a signal has arrived."""
        if self.number is not None:
            raise Interrupted(128 + self.number)


class CommandStop(StopRequest):
    """Stop request of a whole command, forwarded to all running work. If no work is registered, the
    command exits at once, which is safe since all file writes are atomic.
    """

    def __init__(self) -> None:
        super().__init__()
        self._told: list[Callable[[int], None]] = []

    def begin(self) -> None:
        """The command's signal handlers are installed. An ignored SIGHUP (`nohup`) stays ignored;
        an ignored SIGINT (`&` in a script) does not, since it can then only be sent on purpose."""
        if not hasattr(os, "fork"):
            print(_("error: the lab runs on Linux and macOS; on Windows use WSL"), file=sys.stderr)
            raise SystemExit(2)
        if signal.getsignal(signal.SIGTERM) == self.note:
            return  # handlers are installed already
        _fill_standard_streams()
        kept = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        self.install(n for n in signals() if not (kept and n == signal.SIGHUP))
        _limit()

    def heard(self, number: int) -> None:
        told = list(self._told)
        if not told:
            _leave(128 + number)
        name = signal.Signals(number).name
        _say(_("{signal}: stopping after the current step; rerun to resume", signal=name))
        for action in told:
            self._tell(action)

    @contextmanager
    def tells(self, action: Callable[[int], None]) -> Iterator[None]:
        """Context manager that registers running work: a stop request calls `action` once with the
        signal number, at once if it came before. Meanwhile the command does not exit by itself."""
        self._told.append(action)
        if self.number is not None:
            self._tell(action)
        try:
            yield
        finally:
            with suppress(ValueError):
                self._told.remove(action)

    def _tell(self, action: Callable[[int], None]) -> None:
        try:
            self._told.remove(action)  # two threads may get here; only one calls the action
        except ValueError:
            return
        action(self.number or 0)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Context manager whose body is completed despite a stop request; Interrupted is raised at
        its end."""
        with self.tells(lambda _number: None):
            yield
        self.check()


def _fill_standard_streams() -> None:
    """Closed standard streams (`2>&-`) are replaced by /dev/null, so that no other file gets their
    descriptors and libraries do not find None."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number, which is this one
            os.set_inheritable(number, True)  # for the child processes of jobs
            setattr(sys, name, open(number, "w" if number else "r", closefd=False))  # noqa: SIM115


def _limit() -> None:
    """From now on this process ends LIMIT_S seconds after a signal, even if Python cannot run its
    handler because C code of a library is busy."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)

    def wait() -> None:
        (number,) = os.read(reader, 1)
        time.sleep(LIMIT_S)
        os._exit(128 + number)

    threading.Thread(target=wait, daemon=True).start()


def _leave(code: int) -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):  # the stream is closed, or the signal interrupted a write
            stream.flush()
    os._exit(code)


def _say(line: str) -> None:
    with suppress(OSError):  # not `print`, which is not reentrant in a signal handler
        os.write(2, f"{line}\n".encode())


@contextmanager
def held_back() -> Iterator[None]:
    """Context manager that blocks the stop signals; processes started inside inherit the mask."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


COMMAND = CommandStop()
