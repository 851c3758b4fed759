"""A stored snapshot is intact, or is rejected with the name of the faulty file."""

import errno
import json
import random
import re
import shutil

import pytest
import torch
from safetensors.torch import save

from micro_transformer.hashing import digest
from micro_transformer.store import checkpoints
from micro_transformer.store.checkpoints import (
    Damaged,
    DiskFull,
    Entry,
    read_snapshot,
    write_snapshot,
)
from micro_transformer.store.contents import STATE, WEIGHTS, state_of, weights_of

FILES = {"weights.safetensors": bytes(range(256)) * 8, "state.json": b'{"step": 3}'}

GOOD = {
    "progress": {
        "step": 8, "best": 1.25, "best_step": 8, "bad_evaluations": 0, "stopped_early": False,
        "train_seconds": 1.0, "resumes": 0, "cost": {"a": 1.0, "b": None}, "history": [{"step": 1}],
    },
    "scaler": {},
}  # fmt: skip


def test_a_snapshot_survives_write_and_read(tmp_path):
    write_snapshot(tmp_path / "final", FILES)
    assert read_snapshot(tmp_path / "final") == FILES


@pytest.mark.parametrize("name", [*FILES, "manifest.json"])
@pytest.mark.parametrize("harm", ["flip", "cut", "grow", "zero", "remove"])
def test_damage_is_refused_and_the_file_named(tmp_path, name, harm):
    folder = tmp_path / "final"
    write_snapshot(folder, FILES)
    path, data = folder / name, bytearray((folder / name).read_bytes())
    spot = random.Random(harm + name).randrange(len(data))
    data[spot] ^= 1 << 4
    harmed = {
        "flip": bytes(data),
        "cut": bytes(data[: len(data) // 2]),
        "grow": (folder / name).read_bytes() + b"x",
        "zero": b"\0" * len(data),
    }
    path.write_bytes(harmed[harm]) if harm in harmed else path.unlink()
    with pytest.raises(Damaged, match=name if name != "manifest.json" else "final"):
        read_snapshot(folder)


def test_another_format_is_refused_by_number(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "FORMAT", 99)
    write_snapshot(tmp_path / "final", FILES)
    monkeypatch.undo()
    with pytest.raises(Damaged, match="format 99"):
        read_snapshot(tmp_path / "final")


def test_the_last_two_steps_are_kept(tmp_path):
    entry = Entry(tmp_path, "abc")
    for step in (10, 20, 30):
        entry.write_step(step, {"state.json": str(step).encode()})
    assert [int(p.name) for p in entry.steps()] == [30, 20]
    entry.finish(FILES)
    assert entry.is_complete() and not entry.steps()


def test_a_full_disk_is_called_so_and_nothing_is_lost(tmp_path, monkeypatch):
    write_snapshot(tmp_path / "final", FILES)

    def full(_handle):
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(checkpoints.os, "fsync", full)
    with pytest.raises(DiskFull, match="disk full: .*final.* MB free"):
        write_snapshot(tmp_path / "final", {"state.json": b"new"})
    with pytest.raises(DiskFull):
        checkpoints.write_file(tmp_path / "record.json", b"{}")
    monkeypatch.undo()
    assert read_snapshot(tmp_path / "final") == FILES
    assert [p.name for p in tmp_path.iterdir()] == ["final"]


MANIFESTS = {
    "no sums": lambda m: m.pop("sha256"),
    "null sums": lambda m: m.update(sha256=None),
    "a null sum": lambda m: m["sha256"].update({"state.json": None}),
    "list of sums": lambda m: m.update(sha256=["state.json"]),
    "no sizes": lambda m: m.pop("bytes"),
    "a wrong size": lambda m: m["bytes"].update({"state.json": 12}),
    "a negative size": lambda m: m["bytes"].update({"state.json": -1}),
    "a text for a size": lambda m: m["bytes"].update({"state.json": "13"}),
    "a file less": lambda m: [m[key].pop("state.json") for key in ("sha256", "bytes")],
    "no file": lambda m: m.update(sha256={}, bytes={}),
    "above": lambda m: [m[key].update({"../factors.json": 1}) for key in ("sha256", "bytes")],
    "absolute": lambda m: [m[key].update({"/etc/passwd": 1}) for key in ("sha256", "bytes")],
    "a folder up": lambda m: [m[key].update({"..": 1}) for key in ("sha256", "bytes")],
    "no name": lambda m: [m[key].update({"": 1}) for key in ("sha256", "bytes")],
    "a null in a name": lambda m: [m[key].update({"a\0b": 1}) for key in ("sha256", "bytes")],
    "a long name": lambda m: [m[key].update({"x" * 300: 1}) for key in ("sha256", "bytes")],
    "another training": lambda m: m.update(training="0123456789ab"),
    "no training": lambda m: m.pop("training"),
    "no torch": lambda m: m.update(torch=2),
    "another format": lambda m: m.update(format=99),
    "the format before": lambda m: m.update(format=1),
    "a format of text": lambda m: m.update(format="2"),
}


def stored(root, files=None, **config):
    """A finished training of a model with a single matrix."""
    factors = {"config": {"seed": 1, **config}, "code": {"a": "b"}, "data": "c"}
    entry = Entry(root, digest(factors))
    entry.open(factors)
    entry.finish(
        files or {WEIGHTS: save({"w": torch.ones(2, 3)}), STATE: json.dumps(GOOD).encode()}
    )
    return entry


def load(entry):
    """Reads a training with the checks that every reader applies."""
    files = entry.read()
    return weights_of(files, {"w": torch.ones(2, 3)}), state_of(files)


@pytest.mark.parametrize("harm", MANIFESTS)
def test_a_manifest_that_was_edited_is_refused(tmp_path, harm):
    entry = stored(tmp_path)
    assert entry.verify() and load(entry)
    path = entry.final / "manifest.json"
    manifest = json.loads(path.read_text())
    MANIFESTS[harm](manifest)
    del manifest["check"]
    path.write_bytes(checkpoints._as_written(manifest | {"check": digest(manifest)}))
    with pytest.raises(Damaged, match="^(?!.*its own hash)") as caught:
        load(entry)
    assert "\n" not in str(caught.value)


TENSORS = {
    "missing": {},
    "renamed": {"v": torch.ones(2, 3)},
    "extra": {"w": torch.ones(2, 3), "v": torch.ones(1)},
    "turned": {"w": torch.ones(3, 2)},
    "flat": {"w": torch.ones(6)},
    "half": {"w": torch.ones(2, 3).half()},
    "whole numbers": {"w": torch.ones(2, 3, dtype=torch.int64)},
    "not a number": {"w": torch.tensor([[1, 2, float("nan")]] * 2)},
    "infinite": {"w": torch.tensor([[1, 2, -float("inf")]] * 2)},
}
STATES = {
    "empty": b"",
    "deep": b"[" * 100_000,
    "list": b"[]",
    "no progress": b"{}",
    "null progress": b'{"progress": null, "scaler": {}}',
    **{
        f"{name}={value}": json.dumps(
            {"progress": GOOD["progress"] | {name: value}, "scaler": {}}
        ).encode()
        for name in GOOD["progress"]
        for value in ("x", [None], {"a": "b"}, -1)
        if value != -1 or name not in ("best", "train_seconds")
    },
}
WRONG_FILES = {
    **{f"weights {name}": {WEIGHTS: save(tensors)} for name, tensors in TENSORS.items()},
    **{f"state {name}": {STATE: state} for name, state in STATES.items()},
    "weights of no bytes": {WEIGHTS: b""},
    "weights with a deep header": {WEIGHTS: (99_000).to_bytes(8, "little") + b"[" * 99_000},
    "weights with a header beyond the file": {WEIGHTS: (1 << 40).to_bytes(8, "little") + b"{}"},
}


@pytest.mark.parametrize("name", WRONG_FILES)
def test_right_hashes_do_not_make_wrong_content_right(tmp_path, name):
    good = {WEIGHTS: save({"w": torch.ones(2, 3)}), STATE: json.dumps(GOOD).encode()}
    entry = stored(tmp_path, good | WRONG_FILES[name])
    assert entry.verify()
    with pytest.raises(Damaged) as caught:
        load(entry)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


def test_the_weights_of_another_training_are_refused(tmp_path):
    one, two = stored(tmp_path, heads=2), stored(tmp_path, heads=4)
    shutil.rmtree(one.final)
    shutil.copytree(two.final, one.final)
    with pytest.raises(Damaged, match=f"belongs to training '{two.fingerprint}'"):
        one.verify()
    shutil.copy(two.folder / "factors.json", one.folder)
    with pytest.raises(Damaged, match="not the name of its folder"):
        one.verify()


def test_every_flipped_bit_of_every_file_is_refused(tmp_path):
    entry = stored(tmp_path)
    draw = random.Random(1)
    for path in sorted(p for p in entry.folder.rglob("*") if p.suffix in (".json", ".safetensors")):
        whole = path.read_bytes()
        for at in range(draw.randrange(4), len(whole), 4):
            bit = 1 << draw.randrange(8)
            path.write_bytes(whole[:at] + bytes([whole[at] ^ bit]) + whole[at + 1 :])
            with pytest.raises(Damaged):
                load(entry)
        path.write_bytes(whole)
    assert load(entry)


def test_another_version_of_torch_is_told(tmp_path, monkeypatch):
    entry = stored(tmp_path)
    assert entry.other_torch() is None
    monkeypatch.setattr(checkpoints.importlib.metadata, "version", lambda _: "9.0")
    assert re.search(r"trained with torch \d.*, used with 9.0", entry.other_torch())


def test_only_numbers_are_steps(tmp_path):
    entry = Entry(tmp_path, "abc")
    entry.write_step(7, {"state.json": b"{}"})
    for name in ("12abc", "²", "x", "-3", "00000009.tmp"):
        (entry.folder / "steps" / name).mkdir()
    (entry.folder / "steps" / "8").write_text("")
    assert [p.name for p in entry.steps()] == ["00000007"]
