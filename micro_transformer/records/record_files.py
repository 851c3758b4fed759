"""Records and curves on disk: written whole or not at all, checked when read."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from micro_transformer import disk
from micro_transformer.config.neutral import all_choices, with_neutral
from micro_transformer.records.run_record import (
    FAILED,
    RULES,
    NotARecord,
    RunRecord,
    flat,
    from_dict,
    is_number,
    leaves,
    to_dict,
)

if TYPE_CHECKING:
    import pandas

RECORD, HISTORY = "record.json", "history.jsonl"
LARGEST_HISTORY = 64 << 20  # bytes


def write(record: RunRecord, folder: Path) -> Path:
    """folder/record.json is written atomically and synced to disk. Values that are not finite
    become null, with a flag. ValueError names a field that cannot be stored."""
    content = to_dict(record)
    content["flags"] += _drop_not_finite(content)
    data = json.dumps(content, indent=1, allow_nan=False).encode("ascii")
    from_dict(disk.parse_json(data))
    path = Path(folder) / RECORD
    disk.write_file(path, data)
    return path


def cut_down(record: RunRecord, error: str) -> RunRecord:
    """A failed record with those fields of another that can be written."""
    kept: dict[str, Any] = {"id": "unknown", "seed": 0, "config": {}}
    kept |= {name: value for name, value in vars(record).items() if _can_be_written(name, value)}
    return RunRecord(**kept | {"status": FAILED, "error": error})


def read(path: Path) -> RunRecord:
    """The record in a file; NotARecord says what is wrong with it, OSError that it is not there."""
    try:
        return from_dict(disk.parse_json(disk.read_bytes(path)), path)
    except disk.Unreadable as error:
        raise NotARecord(str(error).removeprefix(f"{path}: ")) from None


@dataclass
class Loaded:
    """The records below a folder, in the order of their paths, and the files that are none."""

    records: list[RunRecord]
    skipped: list[tuple[Path, str]]


def load_records(folder: Path) -> Loaded:
    """Every record below the folder. Damaged and foreign files are listed, never raised."""
    loaded = Loaded([], [])
    disk.need_listed(folder)
    for path in sorted(Path(folder).rglob(RECORD)):
        try:
            record = read(path)
            record.meant = dict(leaves(with_neutral(record.config))) | all_choices(record.choices)
            loaded.records.append(record)
        except (NotARecord, OSError) as error:
            loaded.skipped.append((path, str(error)))
    return loaded


def load_runs(folder: Path | str) -> "pandas.DataFrame":
    """One row a record: fields, choices (`posenc`), configuration (`train.lr`), metrics and costs
    (`val/ppl`), the rest dotted (`env.device`). `attrs["skipped"]` counts files that are no record.
    """
    import pandas

    loaded = load_records(Path(folder))
    frame = pandas.DataFrame([flat(record) for record in loaded.records])
    frame.attrs["skipped"] = len(loaded.skipped)
    return frame


def read_history(path: Path) -> list[dict[str, Any]]:
    """The lines of a history.jsonl, or of that next to a record; incomplete lines are skipped."""
    path = path.with_name(HISTORY) if path.name == RECORD else path
    try:
        data = disk.read_bytes(path, LARGEST_HISTORY)
    except (OSError, disk.Unreadable):
        return []
    lines = data.decode("utf-8", "replace").splitlines()
    return [line for line in map(_line, lines) if line is not None]


def _line(text: str) -> dict[str, Any] | None:
    try:
        line = disk.parse_json(text.encode())
    except disk.Unreadable:
        return None
    return line if isinstance(line, dict) and is_number(line.get("step")) else None


def _can_be_written(name: str, value: Any) -> bool:
    if name not in RULES or not RULES[name][1](value):
        return False
    try:
        disk.parse_json(json.dumps(value).encode())
    except (ValueError, TypeError, RecursionError):
        return False
    return True


def _drop_not_finite(content: dict[str, Any]) -> list[str]:
    """Replaces numbers that JSON cannot represent by null; returns a flag for each."""
    lost = []
    for group in ("metrics", "cost", "size", "env"):
        for key, value in content[group].items():
            if isinstance(value, float) and not math.isfinite(value):
                content[group][key] = None
                lost.append(f"{key} was {value}")
    return lost
