"""However a child process ends, the caller gets its outcome and continues."""

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from micro_transformer import stop
from micro_transformer.runs import supervise
from micro_transformer.stop import COMMAND

HERE = "tests.runs.test_supervise"


@pytest.fixture(autouse=True)
def light(monkeypatch):
    before = {n: signal.getsignal(n) for n in stop.signals()}
    monkeypatch.setattr(supervise, "PRELOADED", [])
    monkeypatch.setattr(COMMAND, "number", None)
    COMMAND.install(stop.signals())
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


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


def signal_oneself():
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        os.kill(os.getpid(), number)
    return "went on"


def hang():
    time.sleep(60)


def talkative():
    print("said")
    print("warned", file=sys.stderr)


def hungry():
    raise MemoryError


def obedient(marker):
    asked = stop.StopRequest().install()
    Path(marker).touch()
    while True:
        asked.check()
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


def test_a_signal_to_the_whole_group_leaves_the_server_and_what_it_started(tmp_path):
    """`timeout`, Slurm and a closing terminal send such signals."""
    supervise.forkserver._forkserver._stop()  # one that another test started may obey signals
    supervise.warm_up()
    server = supervise.forkserver._forkserver._forkserver_pid
    for number in stop.signals():
        os.kill(server, number)
    assert supervise.run(f"{HERE}:double", 4, log=tmp_path / "run.log").value == 8
    assert supervise.forkserver._forkserver._forkserver_pid == server


def test_a_child_is_told_by_its_command_alone(tmp_path):
    assert supervise.run(f"{HERE}:signal_oneself", log=tmp_path / "run.log").value == "went on"
    held = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    assert not held & set(stop.signals()), "the command listens again"


def test_an_echo_of_a_signal_is_no_second_one():
    """A signal by torchrun or `kill -- -GROUP` reaches a child directly and by its parent."""
    asked = stop.StopRequest()
    asked.note(signal.SIGTERM)
    asked.note(signal.SIGTERM)
    with pytest.raises(stop.Interrupted):
        asked.check()
