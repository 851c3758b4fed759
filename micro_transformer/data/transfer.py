"""The only code that downloads: an address through pooch, a package through pip. Imported by the
data command alone.
"""

import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import requests
from pooch import HTTPDownloader

from micro_transformer.data import files

TIMEOUT_S = 30.0  # between two bytes
PIP_TIMEOUT_S = 600.0
HEADERS = {"User-Agent": "micro-transformer-lab (data preparation; one request a file)"}


class TransferError(Exception):
    """A download that did not come; one line."""


def download(url: str, part: Path, limit: int, schemes: tuple[str, ...]) -> None:
    """The bytes behind an address lie in part, at most limit of them, every redirect in schemes."""
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
        for answer in answers:  # one that broke off holds its socket
            answer.close()


def pip_download(requirement: str, options: tuple[str, ...], folder: Path) -> None:
    """What pip fetches for a requirement lies in folder; nothing is installed."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-input", "--quiet"]
    command += ["--disable-pip-version-check", *options, requirement, "-d", str(folder)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=PIP_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise TransferError(
            f"pip download {requirement}: not done in {PIP_TIMEOUT_S:.0f} s"
        ) from error
    if done.returncode:
        words = [line for line in done.stderr.splitlines() if line.strip()] or ["no reason given"]
        raise TransferError(f"pip download {requirement}: {words[-1].strip()}")


def _refuse_scheme(url: str, schemes: tuple[str, ...]) -> None:
    if url.split(":", 1)[0].lower() not in schemes:
        raise ValueError(f"refused to go to {url}: only {', '.join(schemes)}")


class _Limited:
    """A stream that refuses more bytes than promised."""

    def __init__(self, stream: Any, limit: int) -> None:
        self.stream, self.limit, self.left = stream, limit, limit

    def write(self, data: bytes) -> int:
        self.left -= len(data)
        if self.left < 0:
            raise ValueError(f"sends more than the {self.limit} bytes of the list; stopped")
        return self.stream.write(data)

    def flush(self) -> None:
        self.stream.flush()


def _first_line(error: BaseException) -> str:
    if isinstance(error, requests.Timeout):
        return f"no answer in {TIMEOUT_S:.0f} s"
    if isinstance(error, requests.ConnectionError | requests.exceptions.ChunkedEncodingError):
        return "no connection, or one that broke off"
    return (str(error).splitlines() or [type(error).__name__])[0]
