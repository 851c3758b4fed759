"""The data command: one line for every mistake, exit codes, a card, a figure; no torch, no surprise
downloads.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from micro_transformer.commands.data import main
from micro_transformer.data import card, sources, transfer
from micro_transformer.data.build_dataset import prepare
from micro_transformer.data.corpora.micro import Micro
from micro_transformer.data.corpora.shakespeare import Shakespeare

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def offline(monkeypatch):
    """No folder, no network: what is left is the grammar."""
    monkeypatch.delenv(sources.FOLDER_VARIABLE, raising=False)

    def fail(*_):
        raise transfer.TransferError("no network in tests")

    monkeypatch.setattr(transfer, "download", fail)
    monkeypatch.setattr(transfer, "pip_download", fail)


@pytest.mark.parametrize(
    "words, said",
    [
        (["prepare", "task=micr"], "task=micr: no such corpus"),
        (["prepare", "task=micro", "language=fr"], "language=fr: must be one of en, es"),
        (["prepare", "task=micro", "stories=0"], "stories=0: must be"),
        (["prepare", "task=micro", "colour=red"], "colour: task=micro has the knobs"),
        (["prepare", "language=en"], "language: needs task=NAME"),
        (["prepare", "task=micro", "stories=[1"], "stories=[1: not a value"),
        (["prepare", "task=micro", "stories=!!python/name:os.system"], "not a value"),
        (["prepare", "task=[1]"], "task=[1]: no such corpus"),
        (["prepare", "task="], "task=: no such corpus"),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else "",
)
def test_wrong_use_is_one_line_and_exit_2(words, said, capsys, tmp_path):
    assert main([*words, f"root={tmp_path}"]) == 2
    error = capsys.readouterr().err
    assert said in error and error.startswith("error: ") and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_root_is_a_folder_as_it_is_typed(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["prepare", "task=micro", "stories=20", "root=2024"]) == 0
    assert (tmp_path / "2024").is_dir()
    assert main(["prepare", "task=micro", "root="]) == 2
    assert "data=: must name a folder" in capsys.readouterr().err


def test_a_task_that_draws_its_own_has_nothing_to_prepare(capsys, tmp_path):
    assert main(["prepare", "task=recall", f"root={tmp_path}"]) == 0
    assert "recall: generates its data" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_a_source_that_cannot_be_had_is_exit_3_and_names_the_cure(offline, capsys, tmp_path):
    assert main(["prepare", "task=shakespeare", "tier=url", f"root={tmp_path}"]) == 3
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(
        "error: data: no source for task=shakespeare (url: no network in tests)"
    )
    assert (
        "python -m micro_transformer.data prepare task=shakespeare" in error and "MT_DATA" in error
    )


def test_without_a_source_the_grammar_stands_in_and_says_so(offline, capsys, tmp_path):
    assert main(["prepare", "task=shakespeare", f"root={tmp_path}"]) == 0
    said = capsys.readouterr()
    assert "tier grammar" in said.out
    assert said.err.count("note: shakespeare: tier") == 3  # the better ones, and why not


def test_real_text_replaces_what_stood_in_for_it(offline, monkeypatch, tmp_path):
    assert prepare(Shakespeare(), tmp_path).record["tier"] == "grammar"
    real = tmp_path / "mine" / "tinyshakespeare"
    real.mkdir(parents=True)
    text = b"A:\nspeak.\n\n" * 8000
    (real / "input.txt").write_bytes(text)
    import hashlib

    from micro_transformer.data.corpora import shakespeare

    mine = sources.Folder("tinyshakespeare/input.txt", len(text), hashlib.sha256(text).hexdigest())
    monkeypatch.setattr(shakespeare, "FILE", mine)
    assert prepare(Shakespeare(), tmp_path).record["tier"] == "grammar"  # still not there
    monkeypatch.setenv(sources.FOLDER_VARIABLE, str(tmp_path / "mine"))
    assert prepare(Shakespeare(), tmp_path).record["tier"] == "MT_DATA"
    assert (
        prepare(Shakespeare(), tmp_path, tier="grammar").record["tier"] == "grammar"
    )  # if asked for


def test_the_card_tells_what_is_there(tmp_path, capsys):
    assert main(["show", "task=micro", "stories=60", "language=es", f"root={tmp_path}"]) == 0
    said = capsys.readouterr().out
    data = prepare(Micro(language="es", stories=60), tmp_path)
    for expected in (data.digest, "tier     grammar", "54 rows (story)", "biases", "licence"):
        assert expected in said
    assert str(data.splits["train"]["columns"]["text"]["tokens"]) in said
    assert f"val_floor_loss {data.manifest['facts']['val_floor_loss']}" in said
    figure = Path(said.split("figure: ")[1].strip())
    assert figure.read_bytes().startswith(b"\x89PNG")


def test_a_sample_cannot_steer_a_terminal(tmp_path, monkeypatch):
    data = prepare(Micro(stories=60), tmp_path)
    monkeypatch.setattr(type(data.tokenizer), "decode", lambda self, ids: "\x1b[2Jgone\u202e")
    assert "\x1b" not in card.text(data) and "\u202e" not in card.text(data)


@pytest.mark.parametrize("words", [["prepare", "task=micro", "stories=60"], ["oops"]])
def test_torch_is_not_loaded(words, tmp_path):
    program = (
        "import sys; from contextlib import suppress; "
        "from micro_transformer.commands.data import main\n"
        f"with suppress(SystemExit): main({[*words, f'root={tmp_path}']!r})\n"
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True)
    assert done.returncode == 0


def test_a_place_that_cannot_be_written_is_exit_3(tmp_path, capsys):
    (tmp_path / "data").write_text("a file")
    assert main(["prepare", "task=micro", "stories=60", f"root={tmp_path / 'data'}"]) == 3
    assert "error: data: " in capsys.readouterr().err
