"""Reads and cleans 10,000 files of random bytes: no crash, valid text, bounded memory.

python benchmarks/clean_random_files.py [files]
"""

import io
import random
import resource
import sys
import time

from micro_transformer.data.text import CONTROLS, Report, fold, lines

LARGEST = 2_000_000
FORBIDDEN = set(map(chr, CONTROLS))


def random_file(seed: int) -> bytes:
    """Text, noise, irregular line ends, marks, NULs, lone surrogates, huge lines, in any order."""
    rng = random.Random(seed)
    odd = [
        b"\r",
        b"\n",
        b"\r\n",
        b"\x00",
        b"\xef\xbb\xbf",
        b"\xed\xa0\x80",
        b"\xf4\x90\x80\x80",
        b"\t",
    ]
    makers = [
        lambda: rng.randbytes(rng.randrange(1000)),
        lambda: "¡ñandú — ﬁn…\u2028 ẞ İ ª!".encode() * rng.randrange(20),
        lambda: rng.choice(odd) * rng.randrange(50),
        lambda: b"a" * rng.randrange(5000),
    ]
    data = b"".join(rng.choice(makers)() for _ in range(rng.randrange(40)))
    return b"x" * LARGEST + data if seed % 500 == 0 else data


def main(files: int) -> None:
    """Prints what was found, the largest memory and the time."""
    start, report, size = time.monotonic(), Report(), 0
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for seed in range(files):
        data = random_file(seed)
        size += len(data)
        for line in lines(io.BytesIO(data), report):
            line.encode("utf-8")
            folded = fold(line)
            assert fold(folded) == folded and not FORBIDDEN & set(line) and "\n" not in line
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert peak < 4 * LARGEST / 1024 + 200_000, f"{peak} kB"
    print(f"{files} files, {size / 1e6:.0f} MB, no crash; {dict(report.counts)}")
    print(f"memory +{peak / 1024:.0f} MB, {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)
