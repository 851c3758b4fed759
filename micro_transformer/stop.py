"""How a command ends that is asked to: in good order, soon, and with the code that says so.

Imports little: a command listens before it loads anything else.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

TWICE_S = 0.5  # signals nearer to each other are one
LIMIT_S = 9.5  # a command has ended this long after a signal, whatever it was doing


def signals() -> tuple[signal.Signals, ...]:
    """Those that ask a process to end: `kill`, Ctrl-C, a closed terminal, Ctrl-backslash."""
    return signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT


class Interrupted(SystemExit):
    """A signal asked the work to stop; it was stopped in good order."""

    def __init__(self, code: int):
        super().__init__(code)

    def __str__(self) -> str:
        return signal.Signals(int(str(self.code)) - 128).name


class StopRequest:
    """Set by a signal; work looks at it between steps. A second signal ends the process at once,
    but not the echo of the first: who signals a group reaches a child twice, by its parent as well.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._first = 0.0

    def install(self, numbers: Iterable[int] = (signal.SIGTERM,)) -> "StopRequest":
        """The signals set this request from now on."""
        for number in numbers:
            signal.signal(number, self.note)
        return self

    def note(self, number: int, _frame: Any = None) -> None:
        """The work is asked to stop by this signal."""
        now = time.monotonic()
        if self.number is None:
            self.number, self._first = number, now
            self.heard(number)
        elif now - self._first > TWICE_S:
            os._exit(128 + number)

    def heard(self, number: int) -> None:
        """Called once, by the first signal."""

    def check(self) -> None:
        """Raises Interrupted when a signal came."""
        if self.number is not None:
            raise Interrupted(128 + self.number)


class CommandStop(StopRequest):
    """The request of a whole command, which tells it to all that is under way. Where nothing is,
    the command ends at once: whatever it was writing is written whole or not at all.
    """

    def __init__(self) -> None:
        super().__init__()
        self._told: list[Callable[[int], None]] = []

    def begin(self) -> None:
        """This process is a command and listens. `nohup` stays in force; a script's `&`, which
        makes SIGINT ignored, does not: who sends it by name means it."""
        if not hasattr(os, "fork"):
            print("error: the lab runs on Linux and macOS; on Windows use WSL", file=sys.stderr)
            raise SystemExit(2)
        if signal.getsignal(signal.SIGTERM) == self.note:
            return  # it listens already
        _fill_standard_streams()
        kept = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        self.install(n for n in signals() if not (kept and n == signal.SIGHUP))
        _limit()

    def heard(self, number: int) -> None:
        told = list(self._told)
        if not told:
            _leave(128 + number)
        _say(f"{signal.Signals(number).name}: ending in good order; the same command goes on later")
        for action in told:
            self._tell(action)

    @contextmanager
    def tells(self, action: Callable[[int], None]) -> Iterator[None]:
        """A stop calls the action, once, with the signal's number, also one that came before; the
        command does not end by itself meanwhile."""
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
            self._told.remove(action)  # the signal's thread and the action's own may both be here
        except ValueError:
            return
        action(self.number or 0)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """What is done here is done whole; a stop that came meanwhile raises Interrupted after."""
        with self.tells(lambda _: None):
            yield
        self.check()


def _fill_standard_streams() -> None:
    """A standard stream that was closed (`2>&-`) takes what is written, and keeps nothing: no
    other file gets its number, and no library finds None."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number, which is this one
            os.set_inheritable(number, True)  # the processes of the jobs have it, too
            setattr(sys, name, open(number, "w" if number else "r", closefd=False))  # noqa: SIM115


def _limit() -> None:
    """From now on a signal ends this process after a while, also one that Python cannot look at
    because a library is busy."""
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
        with suppress(Exception):  # closed, or the signal came while it was written
            stream.flush()
    os._exit(code)


def _say(line: str) -> None:
    with suppress(OSError):  # not `print`: the signal may have come inside one
        os.write(2, f"{line}\n".encode())


@contextmanager
def held_back() -> Iterator[None]:
    """Signals wait; a process that is started here begins with all of them held back."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


COMMAND = CommandStop()
