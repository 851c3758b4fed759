"""A folder of its own with our own small stories, in which benchmarks start run.py."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from micro_transformer.records import record_files, run_record

ROOT = Path(__file__).resolve().parents[1]
MICRO = ["task=micro", "task.stories=300", "model=tiny", "train=smoke", "run.show_samples=0"]
ONE_THREAD = ["train.threads=1", "bench.threads=1"]


class Lab:
    """run.py, started in a folder; what it says goes to `out` there."""

    def __init__(self, folder: Path, data: Path):
        self.folder, self.data = folder, data
        folder.mkdir(exist_ok=True)

    def at(self, name: str) -> "Lab":
        """Another empty folder on the same data."""
        return Lab(self.folder / name, self.data)

    def start(self, *words: str) -> subprocess.Popen:
        """The command is under way, in a process group of its own."""
        with open(self.folder / "out", "a") as out:
            return subprocess.Popen(
                [sys.executable, str(ROOT / "run.py"), *words, f"data.dir={self.data}"],
                cwd=self.folder,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                start_new_session=True,
                stdout=out,
                stderr=out,
            )

    def run(self, *words: str) -> float:
        """Seconds that the whole command took; it ended well."""
        started = time.monotonic()
        code = self.start(*words).wait()
        assert code == 0, f"exit {code}:\n{self.said()[-2000:]}"
        return time.monotonic() - started

    def said(self) -> str:
        """All that the commands printed."""
        return (self.folder / "out").read_text()

    def records(self, sweep: str) -> list[run_record.RunRecord]:
        """The records of a sweep."""
        loaded = record_files.load_records(self.folder / "multirun" / sweep)
        assert not loaded.skipped, loaded.skipped
        return loaded.records


@contextmanager
def new_lab(task: str = "task=micro", *knobs: str) -> Iterator[Lab]:
    """A lab whose data are prepared; it is gone afterwards."""
    with tempfile.TemporaryDirectory() as temporary:
        data = Path(temporary) / "data"
        prepare = ["prepare", task, *knobs, f"root={data}"]
        command = [sys.executable, "-m", "micro_transformer.data", *prepare]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
        yield Lab(Path(temporary) / "lab", data)
