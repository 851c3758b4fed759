"""The record of a run: written whole or not at all, checked when read, gathered into a table.

    multirun/<sweep>/<job>/record.json      one RunRecord
                           history.jsonl    its curve, one line a logged step

Names of metrics and costs carry split and unit (`val/loss` in nats, `decode/tokens_per_s`). What
could not be measured is null, never 0.
"""

import dataclasses
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from micro_transformer import disk

if TYPE_CHECKING:
    import pandas

SCHEMA = 1
RECORD, HISTORY = "record.json", "history.jsonl"
LARGEST_HISTORY = 64 << 20  # bytes

OK = "ok"
INVALID = "invalid"  # a senseless cell of a cross, `error` holds the rule; not a failure
NAN = "nan"  # the loss or a gradient was not finite
OOM = "oom"  # out of memory
FAILED = "failed"  # an exception
KILLED = "killed"  # ended by a signal that nobody here sent
TIMEOUT = "timeout"
INTERRUPTED = "interrupted"  # the user stopped it
STATUSES = (OK, INVALID, NAN, OOM, FAILED, KILLED, TIMEOUT, INTERRUPTED)
FINAL = frozenset({OK, INVALID, NAN})
# Of an `oom` record: the limit was set by the user, so that a second try would end the same.
MEMORY_BUDGET = "memory budget"
# Of costs: whether other jobs ran beside is chance, and no lasting part of a record.
MEASURED_BESIDE = "costs measured beside other jobs"
TRAINED_BESIDE = "trained beside other jobs"
COSTS_PENDING = "costs not measured yet"
PASSING = {MEASURED_BESIDE, TRAINED_BESIDE, COSTS_PENDING}

# What may differ between two runs of the same on one machine; a dotted name covers all below it.
VOLATILE = (
    "sweep",
    "git",
    "started",
    "seconds",
    "phases",
    "cost",
    "env.load",
    "env.jobs_beside",
    "config.run",
    "config.store",
    "config.data",
    "config.check",
    "overrides",
)


class NotARecord(ValueError):
    """A file is not a record that this version can read; the text says why."""


@dataclass(kw_only=True)
class RunRecord:
    """All that is known of one run. Only `path` (where it was read) is not written."""

    id: str
    seed: int
    status: str
    config: dict[str, Any]
    choices: dict[str, str] = field(default_factory=dict)
    overrides: list[str] = field(default_factory=list)
    sweep: str | None = None
    schema: int = SCHEMA
    fingerprints: dict[str, Any] = field(default_factory=dict)
    git: dict[str, Any] = field(default_factory=dict)
    started: str | None = None
    seconds: float | None = None
    phases: dict[str, float | None] = field(default_factory=dict)  # seconds of each that ran
    error: str | None = None
    flags: list[str] = field(default_factory=list)  # what a reader of its figures must know
    env: dict[str, Any] = field(default_factory=dict)
    size: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, float | None] = field(default_factory=dict)
    cost: dict[str, float | None] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    path: Path | None = field(default=None, compare=False)

    def write(self, folder: Path) -> Path:
        """folder/record.json holds this record, on disk, or is as it was. Not-finite figures
        become null and a flag says so. ValueError names the field that cannot be."""
        content = to_dict(self)
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


def is_final(record: RunRecord) -> bool:
    """Whether the same command should leave this run alone rather than try it again."""
    return record.status in FINAL or (record.status == OOM and MEMORY_BUDGET in record.flags)


def to_dict(record: RunRecord) -> dict[str, Any]:
    """The record as JSON holds it."""
    content = dataclasses.asdict(record)
    del content["path"]
    return content


def from_dict(content: Any, path: Path | None = None) -> RunRecord:
    """The record that the content of a record.json describes; NotARecord names the bad field."""
    if not isinstance(content, dict):
        raise NotARecord("not a mapping")
    version = content.get("schema")
    if not _is_int(version) or not 1 <= version <= SCHEMA:  # type: ignore[operator]
        raise NotARecord(f"schema={_short(version)}: this version reads 1 to {SCHEMA}")
    fields = {f.name: f for f in dataclasses.fields(RunRecord) if f.name != "path"}
    if strays := sorted(set(content) - set(fields)):
        raise NotARecord(f"{_short(strays[0])}: no such field")
    for name, rule in _RULES.items():
        required = fields[name].default is fields[name].default_factory is dataclasses.MISSING
        if (name in content or required) and not rule[1](content.get(name)):
            raise NotARecord(f"{name}={_short(content.get(name))}: must be {rule[0]}")
    return RunRecord(**content, path=path)


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
            loaded.records.append(read(path))
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


def flat(record: RunRecord) -> dict[str, Any]:
    """The record as one row; lists as JSON text so that they can be grouped by."""
    row = dict(leaves(record.config)) | dict(record.choices)
    for name, value in to_dict(record).items():
        if name in ("metrics", "cost"):
            row |= value
        elif name in ("fingerprints", "git", "env", "size", "data", "phases"):
            row |= {f"{name}.{key}": v for key, v in leaves(value)}
        elif name not in ("config", "choices"):
            row[name] = json.dumps(value) if isinstance(value, list) else value
    return row | {"path": str(record.path) if record.path else None}


def leaves(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of every leaf; a list is a leaf, as JSON text."""
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", json.dumps(value) if isinstance(value, list | dict) else value


def lasting(record: RunRecord) -> dict[str, Any]:
    """What must be the same, dotted, when the same run is done again on the same machine."""
    flags = [flag for flag in record.flags if flag not in PASSING]
    return {
        key: value
        for key, value in leaves(to_dict(record) | {"flags": flags})
        if not any(key == n or key.startswith(n + ".") for n in VOLATILE)
    }


def read_history(path: Path) -> list[dict[str, Any]]:
    """The lines of a history.jsonl, or of the one beside a record; torn lines are left out."""
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
    return line if isinstance(line, dict) and _is_number(line.get("step")) else None


def _can_be_written(name: str, value: Any) -> bool:
    if name not in _RULES or not _RULES[name][1](value):
        return False
    try:
        disk.parse_json(json.dumps(value).encode())
    except (ValueError, TypeError, RecursionError):
        return False
    return True


def _drop_not_finite(content: dict[str, Any]) -> list[str]:
    """Figures that JSON cannot hold are null from here on; what they were."""
    lost = []
    for group in ("metrics", "cost", "size", "env"):
        for key, value in content[group].items():
            if isinstance(value, float) and not math.isfinite(value):
                content[group][key] = None
                lost.append(f"{key} was {value}")
    return lost


def _short(value: Any) -> str:
    text = "".join(c if c.isprintable() else "?" for c in str(value))
    return text if len(text) <= 60 else text[:57] + "..."


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    try:
        return (
            isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        )
    except OverflowError:  # an integer beyond every float
        return False


def _is_text_or_null(value: Any) -> bool:
    return value is None or isinstance(value, str)


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(v, str) for v in value)


def _is_figures(value: Any) -> bool:
    return isinstance(value, dict) and all(v is None or _is_number(v) for v in value.values())


_TEXTS = ("a list of texts", _is_texts)
_TEXT = ("text or null", _is_text_or_null)
_MAPPING = ("a mapping", lambda v: isinstance(v, dict))
_FIGURES = ("a mapping to numbers or null", _is_figures)
_RULES: dict[str, tuple[str, Any]] = {
    "id": ("text", lambda v: isinstance(v, str) and bool(v)),
    "seed": ("a whole number", lambda v: _is_int(v) and abs(v) < 1 << 63),
    "status": (f"one of {', '.join(STATUSES)}", lambda v: isinstance(v, str) and v in STATUSES),
    "choices": (
        "a mapping to text",
        lambda v: isinstance(v, dict) and all(isinstance(x, str) for x in v.values()),
    ),
    "seconds": ("a number or null", lambda v: v is None or _is_number(v)),
    **dict.fromkeys(("overrides", "flags"), _TEXTS),
    **dict.fromkeys(("sweep", "started", "error"), _TEXT),
    **dict.fromkeys(("config", "fingerprints", "git", "env", "data"), _MAPPING),
    **dict.fromkeys(("size", "metrics", "cost", "phases"), _FIGURES),
}
