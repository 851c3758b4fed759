"""Formats text for display: plurals, and text safe to print."""

import unicodedata


def plural(n: int, word: str) -> str:
    """`1 run`, `2 runs`."""
    return f"{n:,} {word}{'' if n == 1 else 's'}"


def printable(text: str) -> str:
    """The text on one line, without control characters or invisible format characters."""
    if text.isprintable():
        return text
    return "".join(" " if c in "\n\r\t" else c for c in text if c in "\n\r\t" or _is_shown(c))


def _is_shown(character: str) -> bool:
    return unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Zl", "Zp")
