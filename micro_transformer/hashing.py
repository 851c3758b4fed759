"""Hashes of JSON values, for fingerprints."""

import hashlib
import json
from typing import Any


def digest(value: Any, length: int = 12) -> str:
    """First `length` hex digits of the SHA-256 of the value's canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:length]
