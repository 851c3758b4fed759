"""Output errors never interrupt work, and no command ends in a traceback."""

import ast
import multiprocessing.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from micro_transformer.config import schema
from micro_transformer.runs import supervise

PACKAGE = Path(__file__).resolve().parents[1] / "micro_transformer"
MANY = 1 << 17  # bytes: more than a pipe holds
WORK = f"""
import sys
from micro_transformer.console import command
def main():
    print("Δ" * {MANY})
    print("Δ", file=sys.stderr)
    open("done", "w").write("x")
    return {{code}}
command(main)
"""
START = "from micro_transformer.console import command; command('late:main')"


def ended(folder, redirection="", code=0, **variables):
    """(exit code, stderr) of a shell command line whose Python command prints, then works."""
    reader, writer = os.pipe()
    script = f'"$0" -c "$1" {redirection}; echo ${{PIPESTATUS[0]}} >&{writer}'
    env = {**os.environ, "PYTHONPATH": str(PACKAGE.parent), **variables}
    done = subprocess.run(
        ["bash", "-c", script, sys.executable, WORK.format(code=code)],
        cwd=folder, env=env, pass_fds=[writer], capture_output=True, text=True, check=False,
    )  # fmt: skip
    os.close(writer)
    with open(reader) as file:
        return int(file.read()), done.stderr


@pytest.mark.parametrize(
    "redirection, expected",
    [
        ("| head -c 1 >/dev/null", 0),
        ("2>&1 | head -c 1 >/dev/null", 0),
        (">&-", 0),
        ("2>&-", 0),
        ("<&- >&- 2>&-", 0),
        ("2>/dev/full", 0),
        (">/dev/full", 3),
    ],
)
def test_the_work_is_done_whoever_reads(tmp_path, redirection, expected):
    code, said = ended(tmp_path, redirection)
    assert code == expected and "Traceback" not in said and "Exception" not in said
    assert (tmp_path / "done").read_text() == "x"  # and not in a stream's place
    assert ("error: standard output: No space left" in said) == bool(expected)


@pytest.mark.parametrize(
    "variables", [{"PYTHONIOENCODING": "ascii"}, {"PYTHONIOENCODING": "latin1"}]
)
def test_letters_that_a_console_lacks_are_replaced(tmp_path, variables):
    code, said = ended(tmp_path, ">/dev/null", 1, **variables)
    assert code == 1 and said == "?\n"


def test_ctrl_c_before_the_work_is_130_without_a_word(tmp_path):
    (tmp_path / "late.py").write_text("raise KeyboardInterrupt")  # while it is imported
    done = subprocess.run(
        [sys.executable, "-c", START],
        env={**os.environ, "PYTHONPATH": f"{PACKAGE.parent}:{tmp_path}"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_every_main_is_run_by_the_console():
    for path in PACKAGE.rglob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.If) and "__name__" in ast.unparse(node.test):
                assert "command(" in ast.unparse(node), path


def test_a_long_tmpdir_has_room_for_sockets(tmp_path, monkeypatch):
    long = tmp_path / ("x" * 120)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    monkeypatch.delitem(multiprocessing.process.current_process()._config, "tempdir", raising=False)
    supervise._bear_sockets()
    assert len(multiprocessing.util.get_temp_dir()) < 30 and tempfile.gettempdir() == str(long)
    multiprocessing.process.current_process()._config.pop("tempdir")


def test_bounds_of_a_seed_are_those_of_a_record():
    from micro_transformer.records.run_record import RULES

    for seed in (0, 2**63 - 1, 2**63, 2**64, -1):
        if not schema._value("seed", seed, schema.SCALARS["seed"]):
            assert RULES["seed"][1](seed)
    assert not schema._value("seed", 2**63 - 1, schema.SCALARS["seed"])
