"""Neither tampered files nor disk errors end in a traceback."""

import errno
import os
import subprocess
import sys

import pytest

from micro_transformer import disk, durable, temporary_files
from micro_transformer.commands import data as data
from micro_transformer.commands import evaluate, status, store, verify
from micro_transformer.commands import report as report
from micro_transformer.data.prepared_dataset import DataDamaged, DataMissing, open_prepared
from micro_transformer.disk import CannotWrite, DiskFull, Unreadable
from micro_transformer.records import record_files
from micro_transformer.records.record_files import write
from micro_transformer.runs import sweep_state
from micro_transformer.store.checkpoints import Damaged, Entry
from tests.hostile import KINDS, in_time, put
from tests.made_records import make_record


def refuses(error, call):
    with pytest.raises(error):
        call()
    return True


def read_status(folder):
    put_record(folder / "good")
    return status.main([str(folder)]) in (0, 1, 3)


def put_record(folder):
    write(make_record(), folder)


# file below the folder -> what must be true when it holds something else
READERS = {
    "job/record.json": lambda at: (
        not record_files.load_records(at).records
        and report.main([str(at), "--no-figures"]) == 3
        and verify.main([str(at)]) == 3
        and status.main([str(at)]) in (0, 3)
    ),
    "plan.json": read_status,
    "holder.json": lambda at: sweep_state.holder_of(at).pid in (0, 1),
    "history.jsonl": lambda at: record_files.read_history(at / "history.jsonl") == [],
    "0123456789ab/factors.json": lambda at: (
        refuses(Damaged, Entry(at, "0123456789ab").factors)
        and evaluate.main([str(at / "0123456789ab")]) == 3
        and store.main(["--dir", str(at), "list"]) == 0
        and store.main(["--dir", str(at), "prune", "--stale", "--unfinished"]) == 0
        and store.main(["--dir", str(at), "explain", "0123456789ab"]) in (2, 3)
    ),
    "0123456789ab/training.json": lambda at: isinstance(Entry(at, "0123456789ab").notes(), dict),
    "prepared/micro-en-40-char/manifest.json": lambda at: refuses(
        (DataDamaged, DataMissing),
        lambda: open_prepared(at, "micro", {"language": "en", "stories": 40, "tokenizer": "char"}),
    ),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", READERS)
def test_whatever_lies_in_the_place_of_a_file_is_refused_in_time(tmp_path, name, kind, capsys):
    put(tmp_path / name, kind)
    with in_time():
        assert READERS[name](tmp_path)
    assert "Traceback" not in "".join(capsys.readouterr())


def test_a_file_of_json_is_read_and_a_larger_one_is_not(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"a": [1, 2.5, "ñ", null]}')
    assert disk.read_json(path) == {"a": [1, 2.5, "ñ", None]}
    with pytest.raises(Unreadable, match="larger than 0 MiB"):
        disk.read_bytes(path, 5)


FAULTS = {
    errno.EROFS: "read-only",
    errno.EACCES: "permission denied",
    errno.ENOSPC: "disk full",
    errno.EDQUOT: "disk full",
    errno.ENAMETOOLONG: "too long",
    errno.EIO: "Input/output error",
}


@pytest.mark.parametrize("number", FAULTS)
@pytest.mark.parametrize("call", ["open", "replace", "fsync", "mkdir"])
def test_a_fault_while_writing_is_one_line_and_the_file_is_as_it_was(
    tmp_path, monkeypatch, number, call
):
    path = tmp_path / "plan.json"
    disk.write_file(path, b"old")

    def fault(*_args, **_named):
        raise OSError(number, os.strerror(number))

    owner = {"open": durable, "mkdir": disk.Path}.get(call, disk.os)
    monkeypatch.setattr(owner, call, fault, raising=False)
    with pytest.raises(CannotWrite, match=FAULTS[number]) as caught:
        disk.write_file(path, b"new")
    monkeypatch.undo()
    assert isinstance(caught.value, DiskFull) == (number in (errno.ENOSPC, errno.EDQUOT))
    said = str(caught.value)
    assert str(path) in said and "\n" not in said
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["plan.json"]


def test_a_file_in_the_place_of_a_folder_is_named(tmp_path):
    (tmp_path / "a").write_text("")
    for folder in (tmp_path / "a", tmp_path / "a" / "b"):
        with pytest.raises(CannotWrite, match="in the place of a folder"):
            disk.need_writable(folder)
    with pytest.raises(CannotWrite, match="too long"):
        disk.need_writable(tmp_path / ("x" * 300))
    with pytest.raises(CannotWrite, match="/proc"):
        disk.need_writable(disk.Path("/proc/self/store"))


FILE_FOR_FOLDER = {
    "evaluate": lambda at: evaluate.main([f"{at}/0123456789ab"]),
    "store list": lambda at: store.main(["--dir", at, "list"]),
    "store prune": lambda at: store.main(["--dir", at, "prune", "--stale"]),
    "store explain": lambda at: store.main(["--dir", at, "explain", "x"]),
    "report": lambda at: report.main([at]),
    "verify": lambda at: verify.main([at]),
    "status": lambda at: status.main([at]),
    "data": lambda at: data.main(["prepare", "task=micro", "stories=40", f"root={at}"]),
}


@pytest.mark.parametrize("command", FILE_FOR_FOLDER)
@pytest.mark.parametrize("at", ["file", "x" * 300, "file/below"])
def test_every_command_says_in_one_line_that_a_folder_is_none(
    tmp_path, monkeypatch, capsys, command, at
):
    (tmp_path / "file").write_text("")
    monkeypatch.chdir(tmp_path)
    code = FILE_FOR_FOLDER[command](at)
    said = capsys.readouterr()
    if code == 0:  # an empty store is no fault
        assert command == "store list" and at == "file/below" or command.startswith("store")
        return
    assert code in (2, 3), said
    assert said.err.startswith("error: ") and said.err.count("\n") == 1 and len(said.err) < 500


@pytest.mark.parametrize("number", FAULTS)
@pytest.mark.parametrize("command", ["report", "status", "store list", "verify", "evaluate"])
def test_what_may_not_be_read_ends_in_one_line(tmp_path, monkeypatch, capsys, command, number):
    """Another user's folder, which cannot be listed."""

    def closed(path=".", *_):
        raise OSError(number, os.strerror(number), str(path))

    for name in ("scandir", "listdir", "open"):
        monkeypatch.setattr(os, name, closed)
    with in_time():
        code = FILE_FOR_FOLDER[command](str(tmp_path))
    monkeypatch.undo()
    said = capsys.readouterr()
    assert code == 3 and said.err.startswith("error: ") and said.err.count("\n") == 1
    assert FAULTS[number] in said.err


def test_what_dead_processes_left_is_removed_and_nothing_else(tmp_path):
    child = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; from pathlib import Path; from micro_transformer import temporary_files\n"
            "path = temporary_files.temporary(Path(sys.argv[1])); print(path.name)",
            str(tmp_path / "plan.json"),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    dead = tmp_path / child.stdout.strip()
    mine = temporary_files.temporary(tmp_path / "plan.json")
    host = dead.name.split(".")[-2].split("-")[0]
    foreign = tmp_path / dead.name.replace(host, "0" * 8 if host != "0" * 8 else "1" * 8)
    reused = tmp_path / f".plan.json.{host}-{os.getpid()}-12345-1.tmp"
    kept = {mine, foreign, tmp_path / "plan.json", tmp_path / ".mine.tmp"}
    for path in (dead, reused, *kept):
        path.write_text("")
    whole = tmp_path / dead.name.replace("plan.json", "final")
    (whole / "inner").mkdir(parents=True)
    temporary_files.remove_dead([tmp_path, tmp_path / "nowhere"])
    assert set(tmp_path.iterdir()) == kept
