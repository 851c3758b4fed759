"""Reads members of zip and tar archives by name, with a size limit. Nothing is unpacked to the
archive's own paths."""

import errno
import hashlib
import io
import lzma
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from micro_transformer.data.files import Unavailable
from micro_transformer.wording import _

# What the standard library raises for damaged archives; RuntimeError: marked as encrypted,
# NotImplementedError: unknown compression.
DAMAGE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    KeyError,
    ValueError,
    RuntimeError,
    NotImplementedError,
)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Context manager that turns the errors of a damaged archive into Unavailable, with its
    path."""
    try:
        yield
    except OSError as error:
        if error.errno != errno.EINVAL:  # zipfile seeks to an offset in a damaged directory
            raise
        raise Unavailable(_("{path} is damaged: {error}", path=path, error=error)) from error
    except DAMAGE as error:
        raise Unavailable(
            _("{path} is damaged or has another content: {error}", path=path, error=error)
        ) from error


def zip_member(path: Path, member: str, limit: int, sha256: str | None = None) -> bytes:
    """Content of a member of a zip; raises Unavailable if it is absent, larger than `limit`
    bytes or of another SHA-256."""
    with naming(path), zipfile.ZipFile(path) as archive, archive.open(member) as stream:
        return _capped(stream, limit, sha256, f"{path}:{member}")


def tar_member(data: Path | bytes, member: str, limit: int, sha256: str | None = None) -> bytes:
    """Content of a regular file in a tar, given by path or as bytes; errors as in `zip_member`."""
    path = data if isinstance(data, Path) else Path(member)
    stream = data.open("rb") if isinstance(data, Path) else io.BytesIO(data)
    with stream, naming(path), tarfile.open(fileobj=stream) as archive:
        inner = archive.extractfile(archive.getmember(member))
        if inner is None:
            raise Unavailable(_("{path}:{member} is not a regular file", path=path, member=member))
        return _capped(inner, limit, sha256, f"{path}:{member}")


def unzip_member(path: Path, member: str, limit: int, target: Path) -> None:
    """The member is written to `target`, without loading it into memory."""
    with naming(path), zipfile.ZipFile(path) as archive:
        if archive.getinfo(member).file_size > limit:
            raise Unavailable(
                _(
                    "{path}:{member} is larger than {limit} bytes",
                    path=path,
                    member=member,
                    limit=limit,
                )
            )
        with archive.open(member) as stream, target.open("wb") as out:
            shutil.copyfileobj(stream, out)


def zip_names(path: Path) -> list[str]:
    """Names of all members."""
    with naming(path), zipfile.ZipFile(path) as archive:
        return archive.namelist()


def _capped(stream: IO[bytes], limit: int, sha256: str | None, name: str) -> bytes:
    data = stream.read(limit + 1)
    if len(data) > limit:
        raise Unavailable(_("{name} is larger than {limit} bytes", name=name, limit=limit))
    found = hashlib.sha256(data).hexdigest()
    if sha256 not in (None, found):
        raise Unavailable(
            _(
                "{name}: sha256 {found}, expected {sha256}; not used",
                name=name,
                found=found,
                sha256=sha256,
            )
        )
    return data
