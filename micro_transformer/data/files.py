"""Writing files so that a reader sees the old one, the new one or none; and their SHA-256."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from micro_transformer.durable import durable, sync_folder

BLOCK = 1 << 20


class Unavailable(Exception):
    """A source cannot give its file here; the message says why in one line."""


def sha256(path: Path) -> str:
    """Hex digest of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def canonical(value: Any) -> str:
    """JSON text that is equal for equal values."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def write_json(path: Path, value: Any) -> None:
    """The file holds value, readable, and is on the disk."""
    with durable(path) as stream:
        stream.write(
            json.dumps(value, indent=1, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n"
        )


def publish(temporary: Path, final: Path) -> None:
    """What lay under a temporary name lies under its final one, even after a power cut."""
    os.replace(temporary, final)
    sync_folder(final.parent)
