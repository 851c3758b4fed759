"""Unwritable paths are found before any job starts, and reported in one line."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from micro_transformer import disk, temporary_files
from micro_transformer.commands import app
from micro_transformer.records.record_files import read, write
from micro_transformer.runs import run_job, sweep_state
from micro_transformer.runs.planning import make_plan
from tests.made_records import make_record
from tests.sweeps import ROOT, SMOKE, environment

TINY = SMOKE[:6]


def plan_in(folder, data="data"):
    places = [f"hydra.sweep.dir={folder}/sweep", f"store.dir={folder}/store", f"data.dir={data}"]
    return make_plan([*TINY, *places, "eval=none", "bench=none", "seed=1,2", "-m"])


def blocked(folder, plan):
    """Maps place -> function that makes it unwritable by a file or folder in its way, as
    permissions do not stop root."""
    job = plan.jobs[1].folder
    (folder / "sweep").mkdir()
    return {
        "store": lambda: (folder / "store").touch(),
        "sweep": lambda: [(folder / "sweep").rmdir(), (folder / "sweep").touch()],
        "job": job.touch,
        "record": lambda: (job / "record.json").mkdir(parents=True),
    }


@pytest.mark.parametrize("place", ["store", "sweep", "job", "record"])
def test_a_place_that_takes_no_file_is_named_before_the_work(tmp_path, place):
    plan = plan_in(tmp_path)
    blocked(tmp_path, plan)[place]()
    with pytest.raises(OSError) as caught:
        app._need_room(plan)
    said = disk.in_words(caught.value)
    assert "in the place of a" in said and str(tmp_path) in said and "\n" not in said


def test_the_command_says_it_in_one_line(tmp_path, micro_data):
    (tmp_path / "store").touch()
    command = [sys.executable, str(ROOT / "run.py"), *SMOKE, f"data.dir={micro_data}"]
    done = subprocess.run(
        [*command, "store.dir=store"],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == "error: store: a file is in the place of a folder; move it away\n"


def test_what_killed_commands_left_is_gone_before_the_work(tmp_path, monkeypatch):
    plan = plan_in(tmp_path)
    job, entry = plan.jobs[0].folder, tmp_path / "store" / "0123456789ab"
    with monkeypatch.context() as patch:
        patch.setattr(
            temporary_files, "_mark", lambda _: f"{temporary_files._host()}-{os.getpid()}-1"
        )
        left = [
            temporary_files.temporary(path)
            for path in (job / "holder.json", tmp_path / "sweep" / "plan.json", entry / "final")
        ]
    mine = temporary_files.temporary(entry / "final")
    for folder in (*left, mine):
        folder.mkdir(parents=True)
    app._need_room(plan)
    assert [path for path in (*left, mine) if path.exists()] == [mine]


def test_a_job_whose_folder_is_closed_fails_alone(tmp_path, micro_data, monkeypatch):
    """If one job's folder is not writable, the others still run; the exit code is BAD_IO."""
    plan = plan_in(tmp_path, micro_data)
    before, closed = Path.mkdir, plan.jobs[0].folder

    def mkdir(self, *args, **named):
        if closed in (self, self.parent):
            raise OSError(errno.EACCES, "Permission denied", str(self))
        before(self, *args, **named)

    monkeypatch.setattr(Path, "mkdir", mkdir)
    end = run_job.attempt(plan.jobs[0])
    assert (end.record.status, end.exit_code) == ("failed", 3)
    assert "permission denied" in end.record.error and str(closed) in end.record.error
    run_job.measure_alone(plan.jobs[0])


def test_a_full_disk_ends_a_sweep_before_its_next_job(tmp_path, micro_data, monkeypatch):
    plan = plan_in(tmp_path, micro_data)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(disk.DiskFull, match="holder.json needs"):
        run_job.attempt(plan.jobs[0])


def test_a_report_that_cannot_be_written_is_the_exit_code(tmp_path, monkeypatch, capsys):
    plan = plan_in(tmp_path)
    for job in plan.jobs:
        write(make_record(seed=job.config["seed"]), job.folder)
    sweep_state.write_plan(plan.folder, [job.folder for job in plan.jobs])
    whole = [(job.folder / "record.json").read_bytes() for job in plan.jobs]
    (plan.folder / "report.html").mkdir()
    assert app._conclude(plan) == 3
    said = capsys.readouterr().err
    assert said.startswith("error: ") and "report.html" in said and said.count("\n") == 1
    assert whole == [(job.folder / "record.json").read_bytes() for job in plan.jobs]
    (plan.folder / "report.html").rmdir()
    assert app._conclude(plan) == 0
    (plan.jobs[1].folder / "record.json").unlink()
    assert app._conclude(plan) == 3  # its record could not be written
    assert read(plan.jobs[0].folder / "record.json").status == "ok"
