"""The record of a run survives the disk, and nothing else passes for one."""

import errno
import json
import os
import random
import re
from pathlib import Path

import pytest

from micro_transformer.commands.verify import SAME_MACHINE
from micro_transformer.records import record_files, run_record
from micro_transformer.records.record_files import load_records, read, write
from micro_transformer.records.run_record import NotARecord, RunRecord, from_dict, is_final, to_dict
from micro_transformer.runs import endings
from tests.made_records import make_record, write_all


def test_a_record_survives_write_and_read(tmp_path):
    record = make_record(flags=["a note"], error="a | b\n\x1b[31m ñ 漢")
    path = write(record, tmp_path / "job")
    assert read(path) == record
    assert read(path).path == path
    assert [p.name for p in path.parent.iterdir()] == ["record.json"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_figure_that_is_not_finite_is_null_and_said(tmp_path, value):
    record = make_record()
    record.metrics["val/ppl"] = value
    back = read(write(record, tmp_path))
    assert back.metrics["val/ppl"] is None
    assert back.flags == [f"val/ppl was {value}"]


@pytest.mark.parametrize(
    ("field", "value"),
    [("status", "great"), ("seed", "42"), ("seed", True), ("metrics", {"a": "b"}), ("id", ""),
     ("config", []), ("overrides", "seed=42"), ("seconds", "1"), ("schema", 2), ("schema", "1"),
     ("choices", {"posenc": 1}), ("metrics", {"a": 10**400}), ("stray", 1)],
)  # fmt: skip
def test_what_is_no_record_is_named(field, value):
    with pytest.raises(NotARecord, match=field):
        from_dict(to_dict(make_record()) | {field: value})


def test_a_failed_write_leaves_the_old_record(tmp_path):
    path = write(make_record(loss=1.0), tmp_path)
    with pytest.raises(NotARecord):
        write(make_record(status="great"), tmp_path)
    assert read(path).metrics["val/loss"] == 1.0


def test_final_statuses():
    final = [s for s in run_record.STATUSES if is_final(make_record(status=s))]
    assert final == ["ok", "invalid", "nan"]
    assert is_final(make_record(status="oom", flags=[run_record.MEMORY_BUDGET]))


def test_damaged_and_foreign_files_are_skipped_and_counted(tmp_path):
    """A thousand mutations of a record: each is read as a valid record or listed with a reason."""
    whole = json.dumps(to_dict(make_record()), indent=1).encode()
    draw = random.Random(5)
    for i in range(1000):
        (tmp_path / f"{i:04d}").mkdir()
        (tmp_path / f"{i:04d}" / "record.json").write_bytes(_damaged(whole, draw))
    loaded = record_files.load_records(tmp_path)
    assert len(loaded.records) + len(loaded.skipped) == 1000
    assert len(loaded.skipped) > 500
    assert all(isinstance(r, RunRecord) and r.status in run_record.STATUSES for r in loaded.records)
    assert record_files.load_runs(tmp_path).attrs["skipped"] == len(loaded.skipped)


def _damaged(data: bytes, draw: random.Random) -> bytes:
    kind = draw.randrange(6)
    at = draw.randrange(len(data))
    if kind == 0:
        return data[:at]
    if kind == 1:
        return data[:at] + bytes([data[at] ^ 1 << draw.randrange(8)]) + data[at + 1 :]
    if kind == 2:
        return data[:at] + bytes(min(512, len(data) - at)) + data[at + 512 :]
    if kind == 3:
        return draw.randbytes(draw.randrange(200))
    if kind == 4:
        return draw.choice([b"", b"[]", b"null", b"{}", b'{"schema": 1}', b"[" * 100_000, b"NaN"])
    line = draw.choice(data.split(b"\n"))
    return data.replace(line, line.replace(b":", b": NaN, 1:"), 1)


def test_lone_surrogates_do_not_reach_the_reader(tmp_path):
    content = to_dict(make_record()) | {"error": "\ud800 bad"}
    (tmp_path / "record.json").write_text(json.dumps(content))
    (record,) = record_files.load_records(tmp_path).records
    assert record.error == "? bad"


def test_load_runs_gives_a_row_a_record(tmp_path):
    write_all([make_record(42), make_record(43, posenc="alibi", lr=0.1)], tmp_path)
    frame = record_files.load_runs(tmp_path)
    assert list(frame["posenc"]) == ["rope", "alibi"]
    assert list(frame["train.lr"]) == [0.01, 0.1]
    assert list(frame["seed"]) == [42, 43]
    assert {"val/ppl", "decode/tokens_per_s", "env.device", "size.params"} <= set(frame)
    assert record_files.load_runs(tmp_path / "nowhere").empty


def test_lasting_leaves_out_time_and_place():
    one, two = make_record(), make_record(seconds=9.0, started="later", git={}, sweep="other")
    two.cost["decode/tokens_per_s"] = 1.0
    assert run_record.lasting(one) == run_record.lasting(two)
    assert run_record.lasting(one) != run_record.lasting(make_record(loss=1.63))


def test_a_torn_history_is_read_up_to_the_tear(tmp_path):
    path = write(make_record(), tmp_path)
    path.with_name("history.jsonl").write_text('{"step": 1}\n[2]\n{"step": 3}\n{"step": 4, "tr')
    assert [line["step"] for line in record_files.read_history(path)] == [1, 3]
    assert record_files.read_history(tmp_path / "none" / "history.jsonl") == []


UNWRITABLE = {
    "seed": 1 << 63,
    "metrics": {"val/loss": object()},
    "cost": {"a": 10**400},
    "config": {"lr": float("nan")},
    "size": {"params": {1, 2}},
    "env": {"deep": json.loads("[" * 40 + "]" * 40)},
    "data": {"rows": 10**30},
    "choices": {"posenc": 1},
    "error": b"bytes",
    "id": "",
}


@pytest.mark.parametrize("field", UNWRITABLE)
def test_a_record_that_cannot_be_written_becomes_a_failed_one(tmp_path, field):
    record = make_record(**{field: UNWRITABLE[field]})
    assert endings.write(record, tmp_path, [{"step": 1}]) == 0
    back = read(tmp_path / "record.json")
    assert (back.status, record.status) == ("failed", "failed")
    assert "cannot be written" in back.error and back.overrides == record.overrides
    assert getattr(back, field) != UNWRITABLE[field]


def test_a_record_without_room_is_told_and_the_old_one_stays(tmp_path, monkeypatch):
    write(make_record(loss=1.0), tmp_path)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    record = make_record(loss=2.0)
    assert endings.write(record, tmp_path) == 3
    assert record.status == "failed" and "disk full" in record.error
    assert read(tmp_path / "record.json").metrics["val/loss"] == 1.0


PACKAGE = Path(run_record.__file__).parents[1]


def test_every_fact_that_is_read_of_a_machine_is_recorded(real_sweep):
    """A key that nobody writes would let two machines share a column."""
    source = "".join(path.read_text() for path in PACKAGE.rglob("*.py"))
    read = set(re.findall(r"\benv\.get\(\"(\w+)\"", source)) | set(SAME_MACHINE)
    assert len(read) > 6
    for record in load_records(real_sweep).records:
        assert read <= record.env.keys()
        assert record.env["dtype"] == "float32" and record.env["gpu"] is None
