"""What may be in the place of a file that the lab reads, and a limit of time for reading it."""

import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


def _socket(path: Path) -> None:
    before = os.getcwd()
    os.chdir(path.parent)  # the name of a socket is short
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
    finally:
        os.chdir(before)


def _huge(path: Path) -> None:
    with open(path, "wb") as file:
        file.truncate(2 << 30)  # sparse: takes no room


NO_FILES: dict[str, Callable[[Path], object]] = {
    "fifo": os.mkfifo,
    "zero": lambda path: path.symlink_to("/dev/zero"),
    "folder": Path.mkdir,
    "socket": _socket,
    "dangling": lambda path: path.symlink_to("nowhere"),
    "loop": lambda path: path.symlink_to(path.name),
    "huge": _huge,
    "absent": lambda path: None,
}
NO_JSON: dict[str, bytes] = {
    "empty": b"",
    "torn": b'{"jobs": ["a',
    "deep": b"[" * 100_000,
    "closed": b"[" * 900 + b"]" * 900,
    "digits": b'{"jobs": 1' + b"0" * 5000 + b"}",
    "wide": b'{"pid": 1' + b"0" * 400 + b"}",
    "latin": b'{"jobs": ["\xe1"]}',
    "utf16": '{"jobs": []}'.encode("utf-16"),
    "nan": b'{"jobs": NaN}',
    "twice": b'{"jobs": [], "jobs": []}',
    "list": b"[]",
    "null": b"null",
    "text": b'"jobs"',
    "numbers": b'{"jobs": [1, null, {}], "pid": [], "host": 1, "progress": 3, "sha256": null}',
    "names": b'{"jobs": ["a\\u0000b"]}',
    "long": b'{"jobs": ["' + b"x" * 300 + b'"]}',
    "outside": b'{"jobs": ["../x", "/etc", "..", "a/b", ""]}',
    "surrogate": b'{"jobs": ["\\ud800"], "pid": 1, "host": "\\ud800", "since": "\\udfff"}',
    "nulls": bytes(300),
}
KINDS = [*NO_FILES, *NO_JSON]


def put(path: Path, kind: str) -> None:
    """The path holds something else than what belongs there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    NO_FILES[kind](path) if kind in NO_FILES else path.write_bytes(NO_JSON[kind])


@contextmanager
def in_time(seconds: float = 5.0) -> Iterator[None]:
    """AssertionError when what is inside takes longer."""

    def late(*_: object) -> None:
        raise AssertionError(f"took more than {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
