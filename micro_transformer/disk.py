"""Safe file access: untrusted files are validated on reading, writes are atomic.

Only regular files up to a size limit are read, and only strict JSON is accepted. A failed write
leaves the old content. Each I/O error becomes one line: path, reason, cure.
"""

import errno
import fcntl
import functools
import json
import os
import shutil
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

from micro_transformer import temporary_files
from micro_transformer.durable import durable, sync_folder
from micro_transformer.wording import _, clean

BAD_IO = 3  # exit code of a command that could not read or write
LARGEST_JSON = 16 << 20
DEEPEST = 24  # maximum nesting of lists and mappings in a file
DIGITS = 20  # maximum digits of an integer
LONGEST = 200  # maximum characters of a path in a message


class Unreadable(ValueError):
    """The file exists but its content is not acceptable; the text gives the reason."""


class CannotWrite(OSError):
    """A file could not be written; its previous content is unchanged."""

    status, exit_code = "failed", BAD_IO


class DiskFull(CannotWrite):
    """The disk or the quota is full."""


def read_bytes(path: Path, limit: int = LARGEST_JSON) -> bytes:
    """The content of a regular file of at most `limit` bytes. Raises Unreadable, before reading,
    for larger files, pipes, devices and folders; OSError if missing or without permission."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        about = os.fstat(handle)
        if not stat.S_ISREG(about.st_mode):
            raise Unreadable(_("{path}: not a regular file", path=path))
        if about.st_size > limit:
            raise Unreadable(_("{path}: larger than {limit} MiB", path=path, limit=limit >> 20))
        with open(handle, "rb", closefd=False) as file:
            return file.read(about.st_size)
    finally:
        os.close(handle)


def read_json(path: Path) -> Any:
    """The content of a JSON file; raises Unreadable or OSError as `read_bytes` does."""
    try:
        return parse_json(read_bytes(path))
    except Unreadable as error:
        raise Unreadable(f"{path}: {str(error).removeprefix(f'{path}: ')}") from None


def parse_json(data: bytes) -> Any:
    """The value of strict JSON: no duplicate keys, no NaN or Infinity, integers of at most DIGITS
    digits, at most DEEPEST levels; else raises Unreadable."""
    try:
        return plain(_STRICT.decode(data.decode("utf-8")))
    except Unreadable:
        raise
    except (ValueError, RecursionError) as error:
        raise Unreadable(_("no JSON: {fault}", fault=clean(error, 60))) from None


def plain(value: Any, depth: int = 0) -> Any:
    """The value with lone surrogates in strings replaced by `?`; Unreadable if nested too deep."""
    if depth > DEEPEST:
        raise Unreadable(_("nested deeper than {deepest}", deepest=DEEPEST))
    if isinstance(value, dict):
        return {plain(k, depth): plain(v, depth + 1) for k, v in value.items()}
    if isinstance(value, list):
        return [plain(v, depth + 1) for v in value]
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


def write_file(path: Path, data: bytes) -> None:
    """The file contains `data`, synced to disk; on failure it is unchanged and CannotWrite is
    raised."""
    temporary = temporary_files.temporary(path)
    with naming(path, len(data)):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with durable(temporary) as file:
                file.write(data)
            os.replace(temporary, path)
            sync_folder(path.parent)
        except OSError:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise


def need_listed(folder: Path) -> None:
    """Raises PermissionError if the folder exists but cannot be listed, where `glob` would return
    nothing."""
    with suppress(FileNotFoundError, NotADirectoryError):
        os.scandir(folder).close()


def need_writable(folder: Path) -> None:
    """The folder exists and is writable; else raises CannotWrite."""
    probe = temporary_files.temporary(folder / "probe")
    with naming(folder, 1):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            probe.write_bytes(b"\n")
        finally:
            probe.unlink(missing_ok=True)


@contextmanager
def naming(path: Path, size: int = 0) -> Iterator[None]:
    """Context manager that turns an OSError into CannotWrite, or DiskFull if there is no space; the
    text names the path and, if the disk is full, the bytes needed (`size`)."""
    try:
        yield
    except CannotWrite:
        raise
    except OSError as error:
        kind = DiskFull if error.errno in (errno.ENOSPC, errno.EDQUOT) else CannotWrite
        raise kind(in_words(error, path, size)) from error


def is_locked(path: Path, asked: int = fcntl.LOCK_SH) -> bool:
    """Whether the lock `asked` (LOCK_SH or LOCK_EX) is blocked by another process: LOCK_SH finds
    exclusive locks, LOCK_EX any lock. Needs no write permission; False if there is no file."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.flock(handle, asked | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks
        return False
    finally:
        os.close(handle)
    return False


def _cure(number: int | None) -> str | None:
    """The reason and the cure of an I/O error, by its number; None for the system's own words."""
    other_user = _("permission denied; name a folder of your own")
    file_there = _("a file is in the place of a folder; move it away")
    cures = {
        errno.EROFS: _("the file system is read-only; name a folder that can be written"),
        errno.EACCES: other_user,
        errno.EPERM: other_user,
        errno.ENOTDIR: file_there,
        errno.EEXIST: file_there,
        errno.EISDIR: _("a folder is in the place of a file; move it away"),
        errno.ENAMETOOLONG: _("the name is too long; choose a shorter one"),
        errno.EDQUOT: _("disk full: your quota is used up; make room and run again"),
    }
    return cures.get(number or 0)


def in_words(error: OSError, path: Path | None = None, size: int = 0) -> str:
    """An I/O error in one line: path, reason, cure."""
    if isinstance(error, CannotWrite):
        return str(error)
    named = error.filename if isinstance(error.filename, str | bytes) else path
    where = Path(os.fsdecode(named or _("the disk")))
    if error.errno == errno.ENOSPC:
        return _full(path or where, size)
    said = _cure(error.errno) or error.strerror or str(error)
    if path is None:
        return f"{clean(where, LONGEST)}: {said}"
    inside = "" if where.is_relative_to(path) else f" ({clean(where, LONGEST)})"
    return f"{clean(path, LONGEST)}: {said}{inside}"


def _full(path: Path, size: int) -> str:
    shown = clean(path, LONGEST)
    place = next(p for p in (path, *path.absolute().parents) if os.path.exists(p))
    room = os.statvfs(place)
    if room.f_files and not room.f_favail:
        return _("disk full: {path}: no free inodes; remove files and run again", path=shown)
    free = shutil.disk_usage(place).free
    return _(
        "disk full: {path} needs {needed} MB, {free} MB free; make room and run again",
        path=shown,
        needed=f"{size / 1e6:.1f}",
        free=f"{free / 1e6:.1f}",
    )


def one_line(main: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator for a command's main: an OSError is printed in one line and gives exit code 3."""

    @functools.wraps(main)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        try:
            return main(*args, **kwargs)
        except OSError as error:
            print(_("error: {fault}", fault=in_words(error)), file=sys.stderr)
            return BAD_IO

    return guarded


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Unreadable(_("a key is given twice"))
    return found


def _whole(text: str) -> int:
    if len(text) > DIGITS:
        raise Unreadable(_("a number of {n} digits", n=len(text)))
    return int(text)


def _refuse(constant: str) -> NoReturn:
    raise Unreadable(_("{constant} is not JSON", constant=constant))


_STRICT = json.JSONDecoder(object_pairs_hook=_once, parse_int=_whole, parse_constant=_refuse)
