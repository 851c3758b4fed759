"""A job may end in any way; the caller learns how, and goes on."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from micro_transformer import supervise

HERE = "tests.test_supervise"


@pytest.fixture(autouse=True)
def light(monkeypatch):
    monkeypatch.setattr(supervise, "PRELOADED", [])


def double(x):
    return 2 * x


def fail():
    raise ValueError("batch_size=0:\n must be at least 1")


def crash():
    return 1 / 0


def leave():
    sys.exit(7)


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def hang():
    time.sleep(60)


def talkative():
    print("said")
    print("warned", file=sys.stderr)


def hungry():
    raise MemoryError


def obedient(marker):
    stop = supervise.StopRequest().install()
    Path(marker).touch()
    while True:
        stop.check()
        time.sleep(0.01)


@pytest.mark.parametrize(
    "work, status, text",
    [
        ("fail", "failed", "batch_size=0: must be at least 1"),
        ("crash", "failed", "ZeroDivisionError: division by zero"),
        ("leave", "failed", "exit(7)"),
        ("die", "killed", "SIGKILL"),
        ("hungry", "oom", "MemoryError"),
    ],
)
def test_an_end_has_a_name(tmp_path, work, status, text):
    outcome = supervise.run(f"{HERE}:{work}", log=tmp_path / "run.log")
    assert (outcome.status, text in outcome.error) == (status, True), outcome
    assert supervise.run(f"{HERE}:double", 4, log=tmp_path / "run.log").value == 8


def test_what_a_job_of_a_sweep_prints_is_in_its_log(tmp_path, capfd):
    log = tmp_path / "run.log"
    assert supervise.run(f"{HERE}:talkative", log=log, output=log).status == "ok"
    assert {"said", "warned"} <= set(log.read_text().split())
    assert capfd.readouterr() == ("", "")


def test_a_hang_ends_and_leaves_its_stack(tmp_path):
    log = tmp_path / "run.log"
    outcome = supervise.run(f"{HERE}:hang", log=log, timeout_s=1.5)
    assert outcome.status == "timeout"
    assert "in hang" in log.read_text()


def test_a_signal_reaches_the_job_which_stops_in_good_order(tmp_path):
    marker = tmp_path / "started"

    def signal_when_started():
        while not marker.exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=signal_when_started, daemon=True).start()
    started = time.monotonic()
    outcome = supervise.run(f"{HERE}:obedient", str(marker), log=tmp_path / "run.log")
    assert outcome.status == "interrupted" and "SIGTERM" in outcome.error
    assert time.monotonic() - started < supervise.GRACE_S


def test_an_echo_of_a_signal_is_no_second_one():
    """torchrun and `kill -- -GROUP` reach a job's process by themselves and by its parent."""
    stop = supervise.StopRequest()
    stop.note(signal.SIGTERM)
    stop.note(signal.SIGTERM)
    with pytest.raises(supervise.Interrupted):
        stop.check()
    words = "stop.note(15); time.sleep(supervise.TWICE_S + 0.1); stop.note(15); sys.exit(0)"
    start = "import sys, time; from micro_transformer import supervise"
    code = f"{start}; stop = supervise.StopRequest(); {words}"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 143
