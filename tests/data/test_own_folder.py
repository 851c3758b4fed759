"""A set MT_DATA is a wish: its files are read, or it is told why not."""

import hashlib
import re
from dataclasses import replace

import pytest

from micro_transformer.commands.data import main
from micro_transformer.data import sources
from micro_transformer.data.corpora import shakespeare
from micro_transformer.data.corpora.catalog import catalog
from micro_transformer.data.sources import Folder


def put_nothing(path):
    path.unlink()


def put_folder(path):
    path.unlink()
    path.mkdir()


IN_ITS_PLACE = {
    "another text": (lambda path: path.write_bytes(b"of my own"), ": 9 of 11 bytes: sha256"),
    "one letter": (lambda path: path.write_bytes(b"A:\nspeak!\n\n"), ": 11 of 11 bytes: sha256"),
    "empty": (lambda path: path.write_bytes(b""), ": 0 of 11 bytes"),
    "nothing": (put_nothing, "missing"),
    "a folder": (put_folder, "not a regular file"),
    "a dangling link": (lambda p: (p.unlink(), p.symlink_to("nowhere")), "missing"),
    "a link to itself": (lambda p: (p.unlink(), p.symlink_to(p)), "missing|cannot be read"),
}


def folder_with(monkeypatch, name, folder):
    """MT_DATA names a folder that has a small file for each that the corpus lists."""
    monkeypatch.setenv(sources.FOLDER_VARIABLE, str(folder))
    (origin, *others) = catalog()[name]().origins()
    small, text = [], b"A:\nspeak.\n\n"
    for source in origin.sources:
        path = folder / source.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text)
        small.append(Folder(source.path, len(text), hashlib.sha256(text).hexdigest()))
    listed = [replace(origin, sources=tuple(small)), *others]
    monkeypatch.setattr(catalog()[name], "origins", lambda self: listed)
    return folder / small[-1].path


@pytest.mark.parametrize("name", [n for n in catalog() if n != "micro"])
@pytest.mark.parametrize("what", IN_ITS_PLACE)
def test_a_file_of_yours_that_is_another_is_told_and_not_passed_over(
    name, what, tmp_path, monkeypatch, capsys
):
    put, why = IN_ITS_PLACE[what]
    put(folder_with(monkeypatch, name, tmp_path / "mine"))
    for action in ("prepare", "fetch"):
        assert main([action, f"task={name}", f"root={tmp_path / 'data'}"]) == 3
        said = capsys.readouterr().err
        assert said.count("\n") == 1 and re.search(why, said)
        assert f"MT_DATA={tmp_path / 'mine'}" in said and "tier=grammar" in said
    assert not (tmp_path / "data" / "prepared" / name).exists()


@pytest.mark.parametrize("place", ["nowhere", "a file", "~nobody-here/mine"])
def test_a_folder_that_is_none_is_told(place, tmp_path, monkeypatch, capsys):
    (tmp_path / "a file").write_text("x")
    named = place if place.startswith("~") else str(tmp_path / place)
    monkeypatch.setenv(sources.FOLDER_VARIABLE, named)
    words = ["prepare", "task=shakespeare", f"root={tmp_path / 'data'}"]
    assert main(words) == 3
    assert f"{named}: not a folder" in capsys.readouterr().err
    assert main([*words, "tier=grammar"]) == 0  # another is asked for
    assert main(["prepare", "task=micro", "stories=60", f"root={tmp_path / 'data'}"]) == 0


def test_a_file_that_cannot_be_read_is_told(tmp_path, monkeypatch, capsys):
    folder_with(monkeypatch, "shakespeare", tmp_path)

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(sources, "read_bytes", refuse)
    assert main(["prepare", "task=shakespeare", f"root={tmp_path / 'data'}"]) == 3
    assert "input.txt: cannot be read: Permission denied; put the" in capsys.readouterr().err


def test_what_was_prepared_from_elsewhere_is_made_anew_and_said(tmp_path, monkeypatch, capsys):
    words = ["prepare", "task=shakespeare", f"root={tmp_path / 'data'}"]
    assert main([*words, "tier=grammar"]) == 0
    mine = folder_with(monkeypatch, "shakespeare", tmp_path / "mine")
    monkeypatch.setattr(shakespeare, "PLAYS", ((0, "roman/coriolanus"),))
    text = b"A:\nspeak.\n\n" * 90
    mine.write_bytes(text)
    listed = Folder("tinyshakespeare/input.txt", len(text), hashlib.sha256(text).hexdigest())
    (origin, *others) = catalog()["shakespeare"]().origins()
    origin = replace(origin, sources=(listed,), read=shakespeare.read_plays)
    monkeypatch.setattr(catalog()["shakespeare"], "origins", lambda self: [origin, *others])
    capsys.readouterr()
    assert main(words) == 0
    said = capsys.readouterr()
    assert "tier MT_DATA" in said.out
    assert "note: shakespeare: prepared from tier grammar, now again from MT_DATA" in said.err
    mine.write_text("of my own")  # what was prepared before is no excuse
    assert main(words) == 3
