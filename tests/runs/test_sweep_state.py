"""State of a sweep's jobs, read from its folder, and the lock on each job."""

import multiprocessing
import os
import subprocess
import sys
import time

import psutil
import pytest

from micro_transformer.commands import status
from micro_transformer.records.record_files import write
from micro_transformer.records.run_record import RunRecord
from micro_transformer.runs import sweep_state
from micro_transformer.runs.concurrent_jobs import Presence, others
from micro_transformer.runs.sweep_state import SweepStatus, claim


def put(folder, state, error=None, seconds=2.0):
    record = RunRecord(id="x", seed=1, status=state, config={}, error=error, seconds=seconds)
    write(record, folder)


@pytest.fixture
def sweep(tmp_path):
    folder = tmp_path / "demo"
    names = ["good", "senseless", "broken", "under-way", "to-come"]
    folder.mkdir()
    sweep_state.write_plan(folder, [folder / name for name in names])
    put(folder / "good", "ok")
    put(folder / "senseless", "invalid", "width and heads do not fit", 0.0)
    put(folder / "broken", "killed", "ended by SIGKILL")
    return folder


def test_the_standing_counts_what_is_done_failed_running_and_waiting(sweep, capsys):
    with claim(sweep / "under-way") as holder:
        assert holder is None
        line = SweepStatus.of(sweep).line()
        assert line == "2 of 5 done, 1 failed, 1 running, about 3.0 s left"
        assert status.main([str(sweep)]) == 1
    text = capsys.readouterr().out
    assert "killed      broken  ended by SIGKILL" in text and "running     under-way" in text
    assert "1 job waiting" in text and "1 of the done jobs is an invalid combination" in text


def test_a_folder_without_records_is_no_sweep(tmp_path, capsys):
    assert status.main([str(tmp_path / "nothing")]) == 3
    assert "no sweep" in capsys.readouterr().err


def test_without_a_done_job_the_time_left_is_unknown(tmp_path):
    sweep_state.write_plan(tmp_path, [tmp_path / "a", tmp_path / "b"])
    assert SweepStatus.of(tmp_path).line() == "0 of 2 done, time left unknown"


def hold(folder, ready, seconds):
    with claim(folder), Presence(folder / "present"):
        ready.set()
        time.sleep(seconds)


def test_a_claimed_job_names_its_holder_and_is_free_when_that_dies(tmp_path):
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    child = context.Process(target=hold, args=(tmp_path, ready, 60))
    child.start()
    assert ready.wait(10)
    with claim(tmp_path) as holder:
        assert holder is not None and holder.pid == child.pid
    with Presence(tmp_path / "present") as company:
        pass
    assert company.beside == 1
    child.kill()
    child.join()
    with claim(tmp_path) as holder:
        assert holder is None
    with Presence(tmp_path / "present") as alone:
        pass
    assert alone.beside == 0


def test_a_zombie_is_no_job_beside(tmp_path):
    """The process that inherits orphans of a killed command may reap them late."""
    dead = subprocess.Popen([sys.executable, "-c", ""])
    born = psutil.Process(dead.pid).create_time()
    os.waitid(os.P_PID, dead.pid, os.WEXITED | os.WNOWAIT)
    (tmp_path / f"{dead.pid}-{born:.2f}-1").touch()
    assert others(tmp_path) == 0 and not list(tmp_path.iterdir())
    dead.wait()
