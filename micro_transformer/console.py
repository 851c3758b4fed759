"""A command and its console: what it prints, its flags, how it ends. Every `main` is run by this.

A command's work does not depend on who reads its output: a reader that has seen enough (`| head`)
is no error, a closed stream is none, letters that a console lacks become `?`. Only what a device
refuses (a full disk) is told at the end, with exit code 3.
"""

import argparse
import difflib
import errno
import importlib
import io
import logging
import os
import select
import sys
from collections.abc import Callable
from typing import Any, NoReturn, TextIO

from micro_transformer.stop import COMMAND

BAD_USE, BAD_OUTPUT, INTERRUPTED = 2, 3, 130
LEFT = (errno.EPIPE, errno.ECONNRESET)


class Patient(io.FileIO):
    """A file that takes every byte; `lost` says why it could not pass one on."""

    lost: OSError | None = None

    def write(self, data: Any) -> int:
        """All of data is written, or given up."""
        try:
            while (written := super().write(data)) is None:  # would block
                select.select([], [self], [])
            return written
        except OSError as error:
            self.lost = self.lost or error
            return len(data)


def settle() -> None:
    """What this process prints from here on can fail no work."""
    for name, fd in (("stdout", 1), ("stderr", 2)):
        before = getattr(sys, name)
        if isinstance(_raw(before), Patient):
            continue
        setattr(sys, name, _patient(before, fd))
        for handler in logging.root.handlers:
            if isinstance(handler, logging.StreamHandler) and handler.stream is before:
                handler.setStream(getattr(sys, name))


def _patient(before: TextIO | None, fd: int) -> TextIO:
    return io.TextIOWrapper(
        io.BufferedWriter(Patient(fd, "w", closefd=False)),
        encoding=getattr(before, "encoding", "utf-8"),
        errors="replace",
        line_buffering=fd == 2 or os.isatty(fd),
        write_through=getattr(before, "write_through", False),
    )


def clean(text: Any, longest: int = 100) -> str:
    """The text, short and without control characters."""
    shown = "".join(c if c.isprintable() else "?" for c in str(text))
    return shown if len(shown) <= longest else shown[: longest - 3] + "..."


def _raw(stream: TextIO | None) -> Any:
    return getattr(getattr(stream, "buffer", None), "raw", None)


def command(main: Callable[[], int | None] | str) -> NoReturn:
    """The process ends as main does, by function or by `module:function`, which is imported here:
    with its exit code, 128 + number for a signal, 3 when its output could not be written."""
    try:
        COMMAND.begin()  # before the second that the imports take: no signal is lost
        settle()
        if isinstance(main, str):
            module, name = main.split(":")
            main = getattr(importlib.import_module(module), name)
        code = _code(main)
    except KeyboardInterrupt:
        code = INTERRUPTED
    raise SystemExit(_ended(code))


def _code(main: Any) -> int:
    try:
        return main() or 0
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
            return 1
        return end.code or 0


def _ended(code: int) -> int:
    """The exit code, when all that was printed is out."""
    sys.stdout.flush()
    lost = getattr(_raw(sys.stdout), "lost", None)
    if lost is None or lost.errno in LEFT:
        return code
    print(f"error: standard output: {lost.strerror}; what was done is done", file=sys.stderr)
    return code or BAD_OUTPUT


class Parser(argparse.ArgumentParser):
    """Flags of a command; a mistake is one line with the nearest flag."""

    def error(self, message: str) -> NoReturn:
        """Exit code 2."""
        flags = [flag for flag in self._option_string_actions if flag.startswith("--")]
        unknown = next((w for w in message.split() if w.startswith("-")), "")
        near = difflib.get_close_matches(unknown, flags, 1, cutoff=0.5)
        hint = f"; did you mean {near[0]}?" if near and unknown not in flags else "; see --help"
        self.exit(BAD_USE, f"error: {clean(message, 300)}{hint}\n")
