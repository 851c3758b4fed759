"""Every notebook runs from top to bottom on the records of a real sweep."""

import json
import re
import shutil
from pathlib import Path

import nbclient
import nbformat
import pytest

from tests.sweeps import ROOT, environment

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def sources(path: Path, kind: str) -> list[str]:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == kind]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_hardware_comes_first_experiments_are_timed_and_nothing_is_saved(path):
    code = sources(path, "code")
    assert "nvidia-smi" in code[0] and "/proc/meminfo" in code[0]
    assert "seed(42)" in "".join(code) and any(c.startswith("%%time") for c in code)
    assert re.search(r"\(\w+, (19|20)\d\d\)|\w+,?\s\d{4}\)", "".join(sources(path, "markdown")))
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)
    assert max(source.count("\n") for source in code) < 16


@pytest.mark.parametrize("with_gaps", [False, True])
def test_reading_a_sweep(real_sweep, tmp_path, monkeypatch, with_gaps):
    """On a whole sweep, and on one where a run failed and no curve was kept."""
    sweep = real_sweep
    if with_gaps:
        sweep = shutil.copytree(real_sweep, tmp_path / "part")
        for path in sweep.rglob("history.jsonl"):
            path.unlink()
        lost = min(sweep.rglob("record.json"))
        record = json.loads(lost.read_text()) | {"status": "killed", "metrics": {}, "cost": {}}
        lost.write_text(json.dumps(record))
    for key, value in (environment() | {"MT_SWEEP": str(sweep)}).items():
        monkeypatch.setenv(key, value)
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    book = nbformat.read(ROOT / "notebooks" / "05_multirun.ipynb", 4)
    place = {"metadata": {"path": str(ROOT / "notebooks")}}
    nbclient.NotebookClient(book, timeout=60, resources=place).execute()
    shown = [out for cell in book.cells for out in cell.get("outputs", [])]
    text = "".join(
        out.get("text", "") + str(out.get("data", {}).get("text/plain")) for out in shown
    )
    pictures = sum("image/png" in out.get("data", {}) for out in shown)
    assert "4 runs, 0 files skipped" in text and "posenc=rope" in text
    assert ("not tested" if with_gaps else "paired seed") in text  # one pair is no repetition
    assert pictures == (3 if with_gaps else 5)
    assert ("killed" in text.split("Wall time")[-1]) == with_gaps
