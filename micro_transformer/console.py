"""Console output, flags and exit codes. Every command's `main` is run by `command`.

Output problems never interrupt the work: a closed pipe (`| head`) or stream is no error, and
characters that the console cannot encode become `?`. Only a failed write, as on a full disk, is
reported at the end, with exit code 3.
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
    """A raw output stream whose writes never fail; `lost` is the first error, if any."""

    lost: OSError | None = None

    def write(self, data: Any) -> int:
        """Writes the data, waiting while the stream would block; discards it on an error."""
        try:
            while (written := super().write(data)) is None:  # would block
                select.select([], [self], [])
            return written
        except OSError as error:
            self.lost = self.lost or error
            return len(data)


def settle() -> None:
    """stdout and stderr of this process, and log handlers on them, no longer raise on write."""
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
    """The text with non-printable characters as `?`, truncated to `longest` characters."""
    shown = "".join(c if c.isprintable() else "?" for c in str(text))
    return shown if len(shown) <= longest else shown[: longest - 3] + "..."


def _raw(stream: TextIO | None) -> Any:
    return getattr(getattr(stream, "buffer", None), "raw", None)


def command(main: Callable[[], int | None] | str) -> NoReturn:
    """Runs `main` (a function, or `module:function` to import) and exits the process: with its exit
    code, 128 + number for a signal, or 3 if its output could not be written."""
    try:
        COMMAND.begin()  # before the imports, which take a second: no signal is lost
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
    """The exit code after flushing stdout; BAD_OUTPUT if a write failed in a successful command."""
    sys.stdout.flush()
    lost = getattr(_raw(sys.stdout), "lost", None)
    if lost is None or lost.errno in LEFT:
        return code
    why = f"{lost.strerror}; the output is incomplete, all results were saved"
    print(f"error: standard output: {why}", file=sys.stderr)
    return code or BAD_OUTPUT


class Parser(argparse.ArgumentParser):
    """Argument parser whose errors are one line with the nearest flag."""

    def error(self, message: str) -> NoReturn:
        """Prints the error in one line and exits with code 2."""
        flags = [flag for flag in self._option_string_actions if flag.startswith("--")]
        unknown = next((w for w in message.split() if w.startswith("-")), "")
        near = difflib.get_close_matches(unknown, flags, 1, cutoff=0.5)
        hint = f"; did you mean {near[0]}?" if near and unknown not in flags else "; see --help"
        self.exit(BAD_USE, f"error: {clean(message, 300)}{hint}\n")
