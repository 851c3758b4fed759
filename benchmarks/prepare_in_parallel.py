"""50 rounds of 8 processes that prepare the same data concurrently: one hash, nothing left behind.

    python benchmarks/prepare_in_parallel.py [rounds]

Two corpora: our grammar with characters, and with byte-level BPE, whose training must not depend on
the number of threads.
"""

import hashlib
import multiprocessing
import sys
import tempfile
import time
from pathlib import Path

from micro_transformer.data.build_dataset import prepare
from micro_transformer.data.corpora.micro import Micro

WRITERS = 8
CORPORA = (Micro(stories=40), Micro(stories=200, language="es", tokenizer="bpe_1k"))


def hash_of(task: tuple[Micro, str]) -> str:
    """SHA-256 over every prepared file, as one process sees them."""
    data = prepare(*task)
    names = sorted(path.name for path in data.folder.iterdir())
    whole = b"".join(name.encode() + (data.folder / name).read_bytes() for name in names)
    return hashlib.sha256(whole).hexdigest()


def main(rounds: int) -> None:
    """Prints the number of hashes and of files left behind; both must be as expected."""
    start = time.monotonic()
    with multiprocessing.get_context("forkserver").Pool(WRITERS) as pool:
        for corpus in CORPORA:
            hashes, left = set(), 0
            for _ in range(rounds):
                with tempfile.TemporaryDirectory() as root:
                    hashes |= set(pool.map(hash_of, [(corpus, root)] * WRITERS, chunksize=1))
                    names = [path.name for path in Path(root, "prepared").iterdir()]
                    left += len(names) - 2  # the set and its lock
            print(
                f"{corpus}: {rounds} x {WRITERS} preparations, {len(hashes)} hash, {left} left over"
            )
            assert len(hashes) == 1 and left == 0
    print(f"{time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 50)
