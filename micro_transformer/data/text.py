"""Reads and cleans text: the policy for every irregular byte is stated, applied and counted here.

Reading (`lines`), in this order, in memory of a few blocks whatever the file:
    a byte order mark at the start     dropped
    CRLF and lone CR                   become LF
    invalid UTF-8                      each bad sequence becomes U+FFFD; the line numbers are kept
    NUL and other control characters   removed (TAB stays)
    a line over MAX_LINE bytes         cut into pieces between characters

Cleaning (`fold`) is Unicode NFKC, and lower case where a task asks for it. NFKC changes text (`…`
becomes `...`, `ª` becomes `a`), so it happens before tokenisation and never to references of a
translation.
"""

import hashlib
import io
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, TypeVar

T = TypeVar("T")

BLOCK = 1 << 20  # bytes read at a time
MAX_LINE = 1 << 20  # bytes; longer lines are cut
SHOWN = 5  # line numbers kept as examples of a problem
# a full stop, ! or ?, closing quotes, and a space
SENTENCE_END = re.compile(r"(?<=[.!?…])[\"»”’)\]]*\s+")
CONTROLS = {code: None for code in (*range(0x20), *range(0x7F, 0xA0)) if code not in (0x09, 0x0A)}


@dataclass
class Report:
    """Counts of what cleaning changed or dropped, by reason, with the first line numbers of
    each."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[int]] = field(default_factory=dict)

    def note(self, reason: str, line: int, times: int = 1) -> None:
        """One more case of the reason is counted, at a line (1-based)."""
        self.counts[reason] += times
        where = self.examples.setdefault(reason, [])
        if len(where) < SHOWN:
            where.append(line)

    def as_dict(self) -> dict[str, dict[str, object]]:
        """For the manifest: maps reason -> count and first lines."""
        return {
            reason: {"count": count, "lines": self.examples.get(reason, [])}
            for reason, count in sorted(self.counts.items())
        }


def read(data: bytes, report: Report) -> str:
    """The text of a whole file, read as described above; ends in LF only if the file does."""
    return "\n".join(lines(io.BytesIO(data), report))


def lines(stream: BinaryIO, report: Report) -> Iterator[str]:
    """The lines of a binary stream without their LF, read as described above; the last may be
    empty."""
    for number, raw in enumerate(_raw_lines(stream, report), 1):
        yield _decode(raw, number, report)


def _raw_lines(stream: BinaryIO, report: Report) -> Iterator[bytes]:
    """Lines as bytes, ended by LF, none longer than MAX_LINE."""
    number, rest = 1, b""
    for block in _blocks(stream):
        *whole, rest = (rest + block).split(b"\n")
        for line in whole:
            for piece in _pieces(line, number, report):
                yield piece
                number += 1
        while len(rest) > MAX_LINE:
            piece, rest = _cut(rest)
            report.note("line too long, cut", number)
            yield piece
            number += 1
    yield rest


def _blocks(stream: BinaryIO) -> Iterator[bytes]:
    """The stream in blocks, without byte order mark, every line end as LF."""
    first, held = True, b""
    while block := stream.read(BLOCK):
        block = held + block
        if first and len(block) >= 3:
            block = block.removeprefix(b"\xef\xbb\xbf")
            first = False
        held = b"\r" if block.endswith(b"\r") else b""  # its LF may be in the next block
        yield block[: len(block) - len(held)].replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if held:
        yield b"\n"


def _pieces(line: bytes, number: int, report: Report) -> Iterator[bytes]:
    while len(line) > MAX_LINE:
        piece, line = _cut(line)
        report.note("line too long, cut", number)
        yield piece
        number += 1
    yield line


def _cut(line: bytes) -> tuple[bytes, bytes]:
    """The first MAX_LINE bytes and the rest, cut between characters."""
    end = MAX_LINE
    while end > MAX_LINE - 4 and line[end] & 0xC0 == 0x80:
        end -= 1
    return line[:end], line[end:]


def _decode(raw: bytes, number: int, report: Report) -> str:
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        report.note("invalid UTF-8, replaced", number)
        text = raw.decode("utf-8", errors="replace")
    plain = text.translate(CONTROLS)
    if len(plain) < len(text):
        report.note("control characters removed", number, len(text) - len(plain))
    return plain


def fold(text: str) -> str:
    """The text in NFKC and lower case; idempotent."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).lower())


def same(text: str) -> str:
    """Key by which texts are compared: folded, letters and digits only."""
    return "".join(c for c in fold(text) if c.isalnum())


def sentences(text: str) -> list[str]:
    """Keys (`same`) of the sentences of running text, without those that have no letter or
    digit."""
    return [key for part in SENTENCE_END.split(text) if (key := same(part))]


def distinct(items: Iterable[T], key: Callable[[T], str], report: Report, what: str) -> Iterator[T]:
    """The first item per key; the others are counted. Needs 16 bytes of memory per key."""
    seen: set[bytes] = set()
    for number, item in enumerate(items, 1):
        digest = hashlib.blake2b(
            key(item).encode("utf-8", "surrogatepass"), digest_size=16
        ).digest()
        if digest in seen:
            report.note(f"repeated {what}, dropped", number)
            continue
        seen.add(digest)
        yield item
