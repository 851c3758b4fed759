"""What is stored is whole, or refused by name."""

import errno
import random

import pytest

from micro_transformer import store
from micro_transformer.store import Damaged, DiskFull, Entry, read_snapshot, write_snapshot

FILES = {"weights.safetensors": bytes(range(256)) * 8, "state.json": b'{"step": 3}'}


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
    monkeypatch.setattr(store, "FORMAT", 99)
    write_snapshot(tmp_path / "final", FILES)
    monkeypatch.undo()
    with pytest.raises(Damaged, match="format 99"):
        read_snapshot(tmp_path / "final")


def test_a_manifest_cannot_name_files_outside(tmp_path):
    write_snapshot(tmp_path / "final", FILES)
    manifest = tmp_path / "final" / "manifest.json"
    manifest.write_text('{"format": 1, "sha256": {"../secret": "00"}}')
    with pytest.raises(Damaged, match="outside"):
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

    monkeypatch.setattr(store.os, "fsync", full)
    with pytest.raises(DiskFull, match="disk full: .*final.* MB free"):
        write_snapshot(tmp_path / "final", {"state.json": b"new"})
    with pytest.raises(DiskFull):
        store.write_file(tmp_path / "record.json", b"{}")
    monkeypatch.undo()
    assert read_snapshot(tmp_path / "final") == FILES
    assert [p.name for p in tmp_path.iterdir()] == ["final"]
