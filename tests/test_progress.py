"""Progress of long work is shown: a bar on a terminal, elsewhere a line every few seconds."""

import io
import os
import re
import sys
import time

import pytest

from micro_transformer import progress
from micro_transformer.progress import Display, shown


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture(autouse=True)
def fast(monkeypatch):
    for name, seconds in (("FIRST_S", 0.02), ("EVERY_S", 0.05), ("BAR_S", 0.02)):
        monkeypatch.setattr(progress, name, seconds)


def work(seconds=0.2, **options):
    with shown(Display("step", 10), **options) as display:
        display.advance(**{"train/loss": 2.5})
        time.sleep(seconds)


def test_a_log_gets_plain_lines_with_the_step_the_loss_and_the_time_left(capsys):
    work()
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert 2 <= len(lines) <= 5 and "\r" not in out and not err
    pattern = r"step 1 of 10, train/loss 2\.500, \d+ s left"
    assert all(re.fullmatch(pattern, line) for line in lines)


def test_a_terminal_gets_a_bar_and_no_lines(monkeypatch):
    out, err = Terminal(), Terminal()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    work()
    assert not out.getvalue()
    assert "1/10" in err.getvalue() and "train/loss 2.500" in err.getvalue()


def test_output_to_a_file_from_a_terminal_is_told_on_both(monkeypatch, capsys):
    err = Terminal()
    monkeypatch.setattr(sys, "stderr", err)
    work()
    assert "step 1 of 10" in capsys.readouterr().out and "1/10" in err.getvalue()


def test_short_and_quiet_work_says_nothing(capsys):
    work(seconds=0)
    work(is_quiet=True)
    assert capsys.readouterr() == ("", "")


def test_nobody_who_reads_is_no_error(monkeypatch, capsys):
    """A pipe that was closed (`| head -1`), no output at all (`>&-`)."""
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w", buffering=1) as broken:
        monkeypatch.setattr(sys, "stdout", broken)
        work()
        monkeypatch.undo()
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    work(seconds=0.05)


def test_a_line_names_the_unit_under_way_where_units_differ_in_length():
    display = Display("measure", 3)
    display.begin("decoding")
    assert display.line() == "measure 1 of 3, decoding, after 0 s"
    display.advance()
    assert display.line().startswith("measure 1 of 3, ")


def test_a_resumed_work_tells_the_time_by_its_own_pace(monkeypatch):
    now = iter([0.0, 10.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(now))
    display = Display("step", 280, 180)
    for _ in range(20):
        display.advance()
    assert display.line() == "step 200 of 280, 40 s left"
