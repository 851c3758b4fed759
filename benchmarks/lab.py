"""An empty folder with prepared data (our own stories), in which benchmarks run run.py."""

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
    """Runs run.py in a folder, with its output in `out`."""

    def __init__(self, folder: Path, data: Path):
        self.folder, self.data = folder, data
        folder.mkdir(exist_ok=True)

    def at(self, name: str) -> "Lab":
        """Another empty folder with the same data."""
        return Lab(self.folder / name, self.data)

    def start(self, *words: str) -> subprocess.Popen:
        """The command has started, in its own process group."""
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
        """Seconds of the whole command, which has succeeded."""
        started = time.monotonic()
        code = self.start(*words).wait()
        assert code == 0, f"exit {code}:\n{self.said()[-2000:]}"
        return time.monotonic() - started

    def said(self) -> str:
        """All output of the commands."""
        return (self.folder / "out").read_text()

    def records(self, sweep: str) -> list[run_record.RunRecord]:
        """The records of a sweep."""
        loaded = record_files.load_records(self.folder / "multirun" / sweep)
        assert not loaded.skipped, loaded.skipped
        return loaded.records


@contextmanager
def new_lab(task: str = "task=micro", *knobs: str) -> Iterator[Lab]:
    """Context manager with a lab whose data are prepared; deleted at the end."""
    with tempfile.TemporaryDirectory() as temporary:
        data = Path(temporary) / "data"
        prepare = ["prepare", task, *knobs, f"root={data}"]
        command = [sys.executable, "-m", "micro_transformer.data", *prepare]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
        yield Lab(Path(temporary) / "lab", data)
