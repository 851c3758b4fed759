"""Reading and cleaning text: what happens to every odd byte is stated here, done here and counted.

Reading (`lines`), in this order, with memory for a few blocks whatever the file:
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
MAX_LINE = 1 << 20  # bytes of the longest line that is kept whole
SHOWN = 5  # line numbers kept as examples of a problem
# a full stop or its like, what closes with it, and a space
SENTENCE_END = re.compile(r"(?<=[.!?…])[\"»”’)\]]*\s+")
CONTROLS = {code: None for code in (*range(0x20), *range(0x7F, 0xA0)) if code not in (0x09, 0x0A)}


@dataclass
class Report:
    """What cleaning changed or dropped: counts by reason and the first line numbers of each."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[int]] = field(default_factory=dict)

    def note(self, reason: str, line: int, times: int = 1) -> None:
        """One more case of a reason, met at a line (1-based)."""
        self.counts[reason] += times
        where = self.examples.setdefault(reason, [])
        if len(where) < SHOWN:
            where.append(line)

    def as_dict(self) -> dict[str, dict[str, object]]:
        """For the manifest: reason -> how often, and where first."""
        return {
            reason: {"count": count, "lines": self.examples.get(reason, [])}
            for reason, count in sorted(self.counts.items())
        }


def read(data: bytes, report: Report) -> str:
    """The text of a whole file in memory, by the policy above; ends in LF only if the file did."""
    return "\n".join(lines(io.BytesIO(data), report))


def lines(stream: BinaryIO, report: Report) -> Iterator[str]:
    """The lines of a binary stream without their LF, by the policy above; the last one may be
    empty.
    """
    for number, raw in enumerate(_raw_lines(stream, report), 1):
        yield _decode(raw, number, report)


def _raw_lines(stream: BinaryIO, report: Report) -> Iterator[bytes]:
    """Lines as bytes, LF only, none longer than MAX_LINE."""
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
    """The stream in blocks: without its byte order mark, every line end LF."""
    first, held = True, b""
    while block := stream.read(BLOCK):
        block = held + block
        if first and len(block) >= 3:
            block = block.removeprefix(b"\xef\xbb\xbf")
            first = False
        held = b"\r" if block.endswith(b"\r") else b""  # its LF may stand in the next block
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
    """The first MAX_LINE bytes and the rest, not inside a character."""
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
    """NFKC and lower case; folding twice changes nothing more."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).lower())


def same(text: str) -> str:
    """What two texts share when they count as equal: folded, letters and digits only."""
    return "".join(c for c in fold(text) if c.isalnum())


def sentences(text: str) -> list[str]:
    """The sentences of running text by what they share with their equals; those without a letter or
    digit left out.
    """
    return [key for part in SENTENCE_END.split(text) if (key := same(part))]


def distinct(items: Iterable[T], key: Callable[[T], str], report: Report, what: str) -> Iterator[T]:
    """The first item of each key; the others are counted. Holds 16 bytes a key, whatever its
    length.
    """
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
