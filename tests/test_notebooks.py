"""Every notebook runs from top to bottom on the records of a real sweep."""

import json
import re
import shutil
from pathlib import Path

import matplotlib
import nbclient
import nbformat
import pytest
from matplotlib import pyplot

from tests.made_records import add_places, make_record, make_sweep, write_all
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
    pictures = sum(bool({"image/png", "image/svg+xml"} & set(out.get("data", {}))) for out in shown)
    assert "4 runs, 0 files skipped" in text and "posenc=rope" in text
    assert ("not tested" if with_gaps else "paired seed") in text  # one pair is no repetition
    assert pictures == (3 if with_gaps else 5)
    assert ("killed" in text.split("Wall time")[-1]) == with_gaps


def cells_run_on(sweep: Path, monkeypatch, capsys) -> str:
    """What is printed when the code runs from top to bottom, without Jupyter."""
    monkeypatch.setenv("MT_SWEEP", str(sweep))
    matplotlib.use("Agg")
    names: dict = {}
    for code in sources(ROOT / "notebooks" / "05_multirun.ipynb", "code"):
        plain = "\n".join(line for line in code.split("\n") if not re.match(r"\s*[!%]", line))
        exec(compile(plain, "cell", "exec"), names)
        pyplot.close("all")
    return capsys.readouterr().out


@pytest.mark.parametrize("name", sorted(p.name for p in (ROOT / "results").iterdir()))
def test_every_sweep_that_we_show_can_be_read(name, monkeypatch, capsys):
    assert "0 files skipped" in cells_run_on(ROOT / "results" / name, monkeypatch, capsys)


def without(*names):
    """The records of a small sweep without some of their fields."""
    records = make_sweep({"posenc": ["rope", "alibi"]})
    for record in records:
        for name in names:
            setattr(record, name, {})
    return records


ODD_SWEEPS = {
    "bench=none": lambda: without("cost"),
    "eval=none": lambda: without("metrics"),
    "neither": lambda: without("metrics", "cost"),
    "one seed": lambda: make_sweep({"posenc": ["rope", "alibi"]}, seeds=(42,)),
    "one configuration": lambda: make_sweep({}),
    "one run": lambda: [make_record()],
    "a seed missing": lambda: make_sweep({"posenc": ["rope", "alibi"]})[:-1],
    "failures only": lambda: [
        make_record(s, status="failed", error="boom", metrics={}, cost={}) for s in (1, 2)
    ],
    "places": lambda: add_places(make_sweep({"posenc": ["rope", "learned"], "cache": list("ab")})),
    "two boards": lambda: [make_record(s, task=t) for s in (1, 2) for t in ("micro", "recall")],
    "no figure is finite": lambda: [
        make_record(s, metrics={"val/loss": None, "val/ppl": None}, cost={"train/seconds": None})
        for s in (1, 2)
    ],
    "another machine": lambda: [
        make_record(s, posenc=p, env={"device": p, "threads": s})
        for s in (1, 2) for p in ("cpu", "cuda")
    ],
    "many": lambda: make_sweep({"posenc": list("abcdefghijklm"), "cache": list("xyz")}, (1, 2)),
}  # fmt: skip


@pytest.mark.parametrize("name", ODD_SWEEPS)
def test_every_sweep_there_can_be_is_read(name, tmp_path, monkeypatch, capsys):
    records = ODD_SWEEPS[name]()
    said = cells_run_on(write_all(records, tmp_path / "sweep"), monkeypatch, capsys)
    assert f"{len(records)} runs, 0 files skipped" in said
    assert ("not shown here" in said) == (name == "two boards")


@pytest.mark.parametrize("there", [True, False])
def test_a_folder_without_records_is_one_sentence(there, tmp_path, monkeypatch, capsys):
    folder = tmp_path if there else tmp_path / "nowhere"
    said = cells_run_on(folder, monkeypatch, capsys).splitlines()
    assert said[0] == "0 runs, 0 files skipped" and len(said) == 2
    assert "holds no record: set MT_SWEEP to a folder that a sweep has written" in said[1]
