"""A signal is never lost: at any point of its work a command ends soon, with code 128 + signal, and
the same command resumes the work."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from micro_transformer import stop
from micro_transformer.commands import app
from micro_transformer.records import record_files, run_record
from micro_transformer.records.record_files import write
from micro_transformer.runs import run_job, supervise, sweep_state
from micro_transformer.runs.planning import make_plan
from micro_transformer.stop import COMMAND, Interrupted
from micro_transformer.store.checkpoints import Entry
from tests.stand_in import PATIENCE_S, ask_for, ask_in, heard

ROOT = Path(__file__).resolve().parents[1]
WORDS = ["task=micro", "task.stories=300", "model=tiny", "train=smoke", "posenc=rope,none", "-m"]
# In the command itself: what is called, and whether the signal comes before or after it.
CALLS = {
    "fingerprints": (run_job, "fingerprints", True),
    "a child is started": (supervise, "warm_up", True),
    "a child was started": (supervise, "_receive", True),
    "a child has ended": (supervise, "_join", False),
    "noting": (Entry, "note", True),
    "noted": (Entry, "note", False),
    "recording": (record_files, "write", True),
    "recorded": (record_files, "write", False),
    "telling": (run_job, "tell", True),
}
PHASES = ["a child starts", "steps", "storing", "stored", "measuring", "measured", *CALLS]


@pytest.fixture(scope="module")
def planned(micro_data):
    return make_plan([*WORDS, f"data.dir={micro_data}"]).jobs


@pytest.fixture
def lab(tmp_path, monkeypatch, planned):
    """Two jobs of a sweep with stub work, in a command with signal handlers installed."""
    before = {n: signal.getsignal(n) for n in stop.signals()}
    real = supervise.run

    def stand_in(work, *args, **kinds):
        return real(work.replace("micro_transformer.runs.worker", "tests.stand_in"), *args, **kinds)

    monkeypatch.setattr(supervise, "run", stand_in)
    monkeypatch.setattr(supervise, "PRELOADED", [])
    monkeypatch.setattr(app, "_load_report", lambda: None)
    monkeypatch.setattr(COMMAND, "number", None)
    monkeypatch.setattr(stop, "_leave", lambda code: None)  # this process is no command
    COMMAND.install(stop.signals())

    class Lab:
        folder = tmp_path
        jobs = [
            replace(
                job,
                folder=tmp_path / "sweep" / job.folder.name,
                config={**job.config, "store": {"dir": str(tmp_path / "store")}},
            )
            for job in planned
        ]

        def signal_in(self, phase, number):
            ask_for(tmp_path / "store", phase, number)
            if phase in CALLS:
                place, name, first = CALLS[phase]

                def ask():  # a signal to a process of several threads may arrive a moment later
                    if ask_in(tmp_path / "store", phase):
                        heard(COMMAND)

                monkeypatch.setattr(place, name, asking(getattr(place, name), ask, first))

        def run(self, workers=1):
            monkeypatch.setattr(COMMAND, "number", None)
            app._run_here(self.jobs, workers)

        def states(self):
            return [sweep_state.state_of(job.folder).state for job in self.jobs]

        def trained(self):
            path = tmp_path / "store" / "trained"
            return path.read_text().split() if path.exists() else []

    yield Lab()
    for number, handler in before.items():
        signal.signal(number, handler)


def asking(function, ask, first):
    """The function, wrapped to request a stop before or after the call."""

    def call(*args, **kinds):
        if first:
            ask()
        value = function(*args, **kinds)
        if not first:
            ask()
        return value

    return call


@pytest.mark.parametrize("phase", PHASES)
def test_a_signal_in_any_phase_ends_the_sweep_and_the_same_command_goes_on(lab, phase):
    number = stop.signals()[PHASES.index(phase) % 4]
    lab.signal_in(phase, number)
    began = time.monotonic()
    with pytest.raises(Interrupted) as end:
        lab.run()
    assert end.value.code == 128 + number and time.monotonic() - began < PATIENCE_S / 2
    first, second = lab.states()
    assert second == "waiting", "the rest is not begun"
    assert first == "done" or phase not in ("recording", "recorded", "telling")
    done = list(lab.trained())
    lab.run()
    assert lab.states() == ["done", "done"]
    assert lab.trained()[: len(done)] == done and len(set(lab.trained())) == len(lab.trained()) == 2


@pytest.mark.parametrize("phase", ["steps", "storing", "measuring"])
def test_a_signal_reaches_all_jobs_that_run_at_once(lab, phase):
    lab.signal_in(phase, signal.SIGINT)
    with pytest.raises(Interrupted) as end:
        lab.run(workers=2)
    assert end.value.code == 130 and "done" not in lab.states()
    lab.run(workers=2)
    assert lab.states() == ["done", "done"] and len(lab.trained()) == 2


def test_costs_measured_alone_are_kept_or_measured_again_after_a_signal(lab, monkeypatch):
    lab.run()
    record = sweep_state.read_record(lab.jobs[0].folder)
    record.flags = [run_record.COSTS_PENDING]
    write(record, lab.jobs[0].folder)
    lab.signal_in("measuring", signal.SIGTERM)
    with pytest.raises(Interrupted):
        run_job.measure_alone(lab.jobs[0])
    kept = sweep_state.read_record(lab.jobs[0].folder)
    assert kept.status == run_record.OK and kept.flags == [run_record.COSTS_PENDING]
    monkeypatch.setattr(COMMAND, "number", None)
    run_job.measure_alone(lab.jobs[0])
    assert run_record.COSTS_PENDING not in sweep_state.read_record(lab.jobs[0].folder).flags


def test_who_waits_for_another_process_leaves_at_once(lab, monkeypatch):
    def leave(code):
        raise Interrupted(code)

    monkeypatch.setattr(stop, "_leave", leave)
    with sweep_state.claim(lab.jobs[0].folder):
        threading.Timer(0.2, os.kill, [os.getpid(), signal.SIGHUP]).start()
        with pytest.raises(Interrupted) as end:
            run_job.run_job(lab.jobs[0])
    assert end.value.code == 129


START = "import os, signal, sys, time; sys.path.insert(0, {root!r})\n"
START += "from micro_transformer.stop import COMMAND; COMMAND.begin()\n"


def ended(code, *, before="", **options):
    words = [sys.executable, "-c", before + START.format(root=str(ROOT)) + code]
    return subprocess.run(words, capture_output=True, text=True, timeout=30, **options)


KILL = "os.kill(os.getpid(), {})\n"


@pytest.mark.parametrize("number, code", [(2, 130), (15, 143), (1, 129), (3, 131)])
def test_where_nothing_is_under_way_a_command_ends_silently(number, code):
    done = ended("print('said'); " + KILL.format(number) + "time.sleep(9)")
    assert (done.returncode, done.stdout, done.stderr) == (code, "said\n", "")


def test_a_second_signal_ends_at_once_and_a_busy_library_is_ended_in_time():
    held = "import threading\nwith COMMAND.tells(lambda n: None):\n  "
    twice = f"time.sleep(COMMAND and 0.6); {KILL.format(15)}"
    assert ended(f"{held}{KILL.format(2)}  {twice}  time.sleep(9)").returncode == 143
    busy = "from micro_transformer import stop; stop.LIMIT_S = 0.3\n"
    assert ended(f"{busy}{held}{KILL.format(15)}  time.sleep(9)").returncode == 143


def test_nohup_stays_in_force_and_the_background_of_a_script_can_be_signalled():
    ignored = "import signal; signal.signal({}, signal.SIG_IGN)\n"
    assert ended(KILL.format(1), before=ignored.format(1)).returncode == 0
    assert ended(KILL.format(2) + "time.sleep(9)", before=ignored.format(2)).returncode == 130


def test_a_closed_stream_is_one_that_nobody_reads():
    say = "print(1); print(2, file=sys.stderr); print(sys.stdin.read()); os.write(2, b'3')\n"
    say += "assert all(map(os.get_inheritable, (0, 1, 2)))\n"
    shut = lambda: [os.close(number) for number in (0, 1, 2)]  # noqa: E731
    assert ended(say + "assert os.open(os.devnull, 0) > 2", preexec_fn=shut).returncode == 0


def test_another_system_is_told_so_in_a_line(monkeypatch, capsys):
    monkeypatch.delattr(os, "fork")
    with pytest.raises(SystemExit) as end:
        COMMAND.begin()
    assert end.value.code == 2
    assert "Linux and macOS" in capsys.readouterr().err


def test_the_command_listens_before_it_imports_anything_heavy():
    code = "from micro_transformer import stop; print(sorted(sys.modules))"
    modules = json.loads(ended(code).stdout.replace("'", '"'))
    assert not {"torch", "hydra", "multiprocessing", "numpy", "yaml"} & set(modules)
    lines = (ROOT / "run.py").read_text().splitlines()
    imports = [line.strip() for line in lines if "import " in line]
    assert imports[0] == "from micro_transformer.stop import COMMAND"
