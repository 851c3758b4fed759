"""The stated policy for odd bytes, on cases and on random files; memory stays bounded."""

import io
import random
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from micro_transformer.data import text
from micro_transformer.data.text import Report, distinct, fold, lines, read, same

CASES = {
    b"": "",
    b"\xef\xbb\xbfuno\ndos": "uno\ndos",
    b"\xef\xbb\xbf": "",
    b"a\r\nb\rc\nd": "a\nb\nc\nd",
    b"a\r": "a\n",
    b"\r\n\r\n": "\n\n",
    b"nul\x00bell\x07tab\tdel\x7f": "nulbelltab\tdel",
    b"caf\xe9 ok": "caf\ufffd ok",
    "lone \ud800 surrogate".encode("utf-8", "surrogatepass"): "lone \ufffd\ufffd\ufffd surrogate",
    b"\xff\xfe": "\ufffd\ufffd",
    "¿Qué? «—…»".encode(): "¿Qué? «—…»",
    b"   \n \n": "   \n \n",
}


@pytest.mark.parametrize("data", CASES, ids=repr)
def test_the_policy(data):
    assert read(data, Report()) == CASES[data]


@pytest.mark.parametrize("block", [1, 2, 3, 7])
@pytest.mark.parametrize("data", CASES, ids=repr)
def test_blocks_do_not_show(monkeypatch, data, block):
    """A CRLF or a mark cut in two by the end of a block is still one."""
    monkeypatch.setattr(text, "BLOCK", max(block, 3 if data[:1] == b"\xef" else block))
    assert read(data, Report()) == CASES[data]


def test_the_report_names_lines():
    report = Report()
    read(b"fine\nbad \xff\nfine\nnul \x00\x00\nbad \xfe\xff", report)
    assert report.as_dict() == {
        "control characters removed": {"count": 2, "lines": [4]},
        "invalid UTF-8, replaced": {"count": 2, "lines": [2, 5]},
    }


def test_huge_lines_are_cut_between_characters(monkeypatch):
    monkeypatch.setattr(text, "MAX_LINE", 10)
    report = Report()
    found = list(lines(io.BytesIO("ñ".encode() * 50 + b"\nshort"), report))
    assert found[-1] == "short" and "".join(found[:-1]) == "ñ" * 50
    assert all(len(line.encode()) <= 10 for line in found)
    assert report.counts["line too long, cut"] == 9


def test_memory_is_bounded_by_the_block_not_the_file():
    """100 MB without a line feed pass in pieces."""

    class Endless(io.RawIOBase):
        left = 100

        def read(self, size=-1):
            self.left -= 1
            return b"x" * (1 << 20) if self.left >= 0 else b""

    tracemalloc.start()
    total = sum(len(line) for line in lines(Endless(), Report()))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total == 100 << 20 and peak < 20 << 20


def random_file(seed):
    """Bytes that are sometimes text, sometimes not."""
    rng = random.Random(seed)
    parts = [
        lambda: rng.randbytes(rng.randrange(200)),
        lambda: "¡ñandú — ﬁn…\u2028 ẞ İ ª!".encode() * rng.randrange(4),
        lambda: rng.choice(
            [b"\r", b"\n", b"\r\n", b"\x00", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\t"]
        ),
        lambda: b"a" * rng.randrange(3000),
    ]
    return b"".join(rng.choice(parts)() for _ in range(rng.randrange(30)))


@pytest.mark.parametrize("start", range(0, 400, 100))
def test_random_files_pass(monkeypatch, start):
    """benchmarks/clean_random_files.py does 10,000."""
    monkeypatch.setattr(text, "BLOCK", 256)
    monkeypatch.setattr(text, "MAX_LINE", 512)
    for seed in range(start, start + 100):
        cleaned = read(random_file(seed), Report())
        cleaned.encode("utf-8")
        assert not set(cleaned) & set(map(chr, text.CONTROLS))
        folded = fold(cleaned)
        assert fold(folded) == folded


@given(st.text())
def test_folding_twice_changes_nothing_more(value):
    assert fold(fold(value)) == fold(value)


def test_folding_is_nfkc_and_lower_case():
    assert fold("ﬁn… ª Ñ ＡＢ") == "fin... a ñ ab"
    assert same("¡Hola, Mundo! 2") == same("hola mundo 2") == "holamundo2"


def test_duplicates_are_dropped_once_counted_and_in_order():
    report = Report()
    assert list(distinct(["b", "a", "b", "A"], same, report, "line")) == ["b", "a"]
    assert report.as_dict() == {"repeated line, dropped": {"count": 2, "lines": [3, 4]}}
