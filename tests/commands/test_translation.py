"""In a language that brackets each message, commands print no prose outside the brackets."""

import re
from importlib import import_module
from pathlib import Path

import pytest

from micro_transformer import disk
from micro_transformer.commands import app, run_help, status, store
from micro_transformer.config import choices
from micro_transformer.runs.sweep_state import DONE, RUNNING, WAITING, SweepStatus
from tests.commands.test_grammar import NAMES, ended
from tests.test_wording import pseudo  # noqa: F401

DEMO = Path(__file__).resolve().parents[2] / "results" / "demo"


def outside(text: str, names=()) -> list[str]:
    """The words outside brackets, without names, keys, flags, paths and numbers."""
    while (shorter := re.sub(r"⟦[^⟦⟧]*⟧", " ", text)) != text:
        text = shorter
    words = [word.strip("(),:;?") for word in text.split()]
    return [w for w in words if w.isalpha() and w.islower() and len(w) > 1 and w not in names]


@pytest.mark.parametrize("name", NAMES)
def test_help(name, pseudo, capsys):  # noqa: F811
    parser = import_module(f"micro_transformer.commands.{name}").parser()
    for each in (parser, *parser.actions.values()):
        _code, said, _errors = ended(each.parse, ["--help"], capsys)
        assert "⟦" in said and not outside(said, parser.actions), said


def test_help_of_run_py(pseudo):  # noqa: F811
    assert not outside(run_help.text(), ["job"])


@pytest.mark.parametrize(
    "words", [["--hlep"], ["prpare"], ["prepare", "task=micr"], ["prepare", "task=micro", "a=1"]]
)
def test_errors(words, pseudo, capsys):  # noqa: F811
    with pytest.raises(SystemExit):
        raise SystemExit(import_module("micro_transformer.commands.data").main(words))
    said = capsys.readouterr().err
    assert said.startswith("⟦error: ") and not outside(said), said


def test_a_full_disk(pseudo, tmp_path):  # noqa: F811
    for number in (13, 21, 28, 30):
        assert not outside(disk.in_words(OSError(number, ""), tmp_path))


def test_an_empty_store_and_a_sweep(pseudo, tmp_path, monkeypatch):  # noqa: F811
    assert not outside(store.list_text(tmp_path))
    monkeypatch.setattr(SweepStatus, "line", lambda self: "")  # of runs/, not of the command
    assert not outside(status.text(DEMO, SweepStatus.of(DEMO)), (DONE, RUNNING, WAITING))


@pytest.mark.parametrize("group", choices.groups())
def test_every_choice_says_what_it_is(group):
    for choice in choices.choices_of(group):
        about = choices.about(group, choice)
        assert about and not about.startswith("@"), f"{group}/{choice}.yaml"
        assert f"{group}={choice} " in run_help.text() and about in run_help.text()


def test_run_py_has_help_and_one_line_for_a_wrong_flag(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["run.py", "--help"])
    assert app.main() == 0
    assert capsys.readouterr().out.startswith("usage: python run.py [--multirun]")
    monkeypatch.setattr("sys.argv", ["run.py", "--hlep"])
    assert app.main() == 2
    assert capsys.readouterr().err.startswith("error: --hlep: no such flag; did you mean help?")


@pytest.mark.parametrize(
    "word",
    ["posenc=rop", "seed=x", "train.lr=-1", "sed=1", "model.d_model=3.5", "posenc=", "${a}=1",
     "seed=interval(0,1)", "posenc.colour=red", "hydra.x=1", "cache.kind=Segment"],
)  # fmt: skip
def test_errors_of_run_py(word, pseudo, monkeypatch, capsys):  # noqa: F811
    monkeypatch.setattr("sys.argv", ["run.py", word])
    assert app.main() == 2
    assert not outside(capsys.readouterr().err)
