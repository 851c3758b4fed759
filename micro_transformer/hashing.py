"""Hashes of values. Time and place name nothing."""

import hashlib
import json
from typing import Any


def digest(value: Any, length: int = 12) -> str:
    """First hex digits of the SHA-256 of value's canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:length]
