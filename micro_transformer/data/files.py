"""Atomic file writes (a reader sees the old file, the new one or none), and SHA-256 of files."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from micro_transformer.durable import durable, sync_folder

BLOCK = 1 << 20


class Unavailable(Exception):
    """A source cannot provide its file on this machine; the message gives the reason in one
    line."""


def sha256(path: Path) -> str:
    """Hex digest of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def canonical(value: Any) -> str:
    """JSON text, equal for equal values."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def write_json(path: Path, value: Any) -> None:
    """The file contains the value as indented JSON, synced to disk."""
    with durable(path) as stream:
        stream.write(
            json.dumps(value, indent=1, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n"
        )


def publish(temporary: Path, final: Path) -> None:
    """The file or folder `temporary` is renamed to `final`, and stays so after a power failure."""
    os.replace(temporary, final)
    sync_folder(final.parent)
