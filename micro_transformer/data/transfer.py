"""The only code that downloads: from an address with pooch, a package with pip. Imported only by
the data command."""

import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import requests
from pooch import HTTPDownloader

from micro_transformer.data import files
from micro_transformer.wording import _

TIMEOUT_S = 30.0  # between two bytes
PIP_TIMEOUT_S = 600.0
HEADERS = {"User-Agent": "micro-transformer-lab (data preparation; one request a file)"}


class TransferError(Exception):
    """A download failed; the text gives the reason in one line."""


def download(url: str, part: Path, limit: int, schemes: tuple[str, ...]) -> None:
    """`part` contains the bytes at the address, at most `limit`; every redirect has one of the
    schemes."""
    answers: list[requests.Response] = []

    def guard(response: requests.Response, **_: Any) -> None:
        answers.append(response)
        if response.is_redirect:
            _refuse_scheme(urljoin(response.url, response.headers["location"]), schemes)

    get = HTTPDownloader(
        progressbar=sys.stderr.isatty(),
        timeout=TIMEOUT_S,
        headers=HEADERS,
        hooks={"response": guard},
    )
    try:
        _refuse_scheme(url, schemes)
        with files.durable(part) as stream:
            get(url, _Limited(stream, limit), None)
    except (requests.RequestException, ValueError) as error:
        raise TransferError(f"{url}: {_first_line(error)}") from error
    finally:
        for answer in answers:  # an interrupted one keeps its socket open
            answer.close()


def pip_download(requirement: str, options: tuple[str, ...], folder: Path) -> None:
    """The folder contains what pip downloads for a requirement; nothing is installed."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-input", "--quiet"]
    command += ["--disable-pip-version-check", *options, requirement, "-d", str(folder)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=PIP_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise TransferError(
            _(
                "pip download {requirement}: not done in {limit} s",
                requirement=requirement,
                limit=f"{PIP_TIMEOUT_S:.0f}",
            )
        ) from error
    if done.returncode:
        words = [line for line in done.stderr.splitlines() if line.strip()]
        raise TransferError(
            _(
                "pip download {requirement}: {reason}",
                requirement=requirement,
                reason=words[-1].strip() if words else _("no reason given"),
            )
        )


def _refuse_scheme(url: str, schemes: tuple[str, ...]) -> None:
    if url.split(":", 1)[0].lower() not in schemes:
        raise ValueError(
            _("{url}: refused; only {schemes} are allowed", url=url, schemes=", ".join(schemes))
        )


class _Limited:
    """A stream that accepts at most `limit` bytes."""

    def __init__(self, stream: Any, limit: int) -> None:
        self.stream, self.limit, self.left = stream, limit, limit

    def write(self, data: bytes) -> int:
        self.left -= len(data)
        if self.left < 0:
            raise ValueError(_("more than the expected {limit} bytes; stopped", limit=self.limit))
        return self.stream.write(data)

    def flush(self) -> None:
        self.stream.flush()


def _first_line(error: BaseException) -> str:
    if isinstance(error, requests.Timeout):
        return _("no answer in {limit} s", limit=f"{TIMEOUT_S:.0f}")
    if isinstance(error, requests.ConnectionError | requests.exceptions.ChunkedEncodingError):
        return _("no connection, or a broken one")
    return (str(error).splitlines() or [type(error).__name__])[0]
