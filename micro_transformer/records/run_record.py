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
from typing import Any

from micro_transformer.wording import _, clean

SCHEMA = 1

OK = "ok"
INVALID = "invalid"  # an invalid combination, `error` says the rule; not a failure
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
# Text samples beside a record, and the line that begins each.
SAMPLES, SAMPLE_MARK = "samples.txt", "=== sample"
# Scores of translations in the folder of a record, with their counts per sentence.
TRANSLATION_SCORES = "translation_scores.{split}.json"
# Scores of classifications in the folder of a record, with what is right per sentence.
CLASSIFICATION_SCORES = "classification_scores.{split}.json"
# Loads, gates and choices of experts in the folder of a record.
EXPERTS = "experts.json"
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
    """All that is known of one run. `path` (where it was read) and `meant` are not written."""

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
    quality: dict[str, Any] = field(default_factory=dict)  # name, lower_is_better; {}: not stated
    path: Path | None = field(default=None, compare=False)
    # Dotted configuration and choices, those that did not exist yet included; set when loaded.
    meant: dict[str, Any] = field(default_factory=dict, compare=False)


def is_final(record: RunRecord) -> bool:
    """Whether the same command should leave this run alone rather than try it again."""
    return record.status in FINAL or (record.status == OOM and MEMORY_BUDGET in record.flags)


def to_dict(record: RunRecord) -> dict[str, Any]:
    """The record as a JSON object."""
    content = dataclasses.asdict(record)
    del content["path"], content["meant"]
    return content


def from_dict(content: Any, path: Path | None = None) -> RunRecord:
    """The record that the content of a record.json describes; NotARecord names the bad field."""
    if not isinstance(content, dict):
        raise NotARecord(_("not a mapping"))
    version = content.get("schema")
    if not _is_int(version) or not 1 <= version <= SCHEMA:  # type: ignore[operator]
        raise NotARecord(
            _(
                "schema={schema}: this version reads 1 to {last}",
                schema=clean(version, 60),
                last=SCHEMA,
            )
        )
    fields = {f.name: f for f in dataclasses.fields(RunRecord) if f.name not in ("path", "meant")}
    if strays := sorted(set(content) - set(fields)):
        raise NotARecord(_("{name}: no such field", name=clean(strays[0], 60)))
    for name, rule in RULES.items():
        required = fields[name].default is fields[name].default_factory is dataclasses.MISSING
        if (name in content or required) and not rule[1](content.get(name)):
            raise NotARecord(
                _(
                    "{name}={value}: must be {rule}",
                    name=name,
                    value=clean(content.get(name), 60),
                    rule=rule[0],
                )
            )
    return RunRecord(**content, path=path)


def flat(record: RunRecord) -> dict[str, Any]:
    """The record as one row; lists as JSON text so that they can be grouped by."""
    row = dict(leaves(record.config)) | dict(record.choices)
    for name, value in to_dict(record).items():
        if name in ("metrics", "cost"):
            row |= value
        elif name in ("fingerprints", "git", "env", "size", "data", "quality", "phases"):
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


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
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
    return isinstance(value, dict) and all(v is None or is_number(v) for v in value.values())


def _is_quality(value: Any) -> bool:
    return value == {} or (
        isinstance(value, dict)
        and value.keys() == {"name", "lower_is_better"}
        and isinstance(value["name"], str)
        and isinstance(value["lower_is_better"], bool)
    )


_TEXTS = ("a list of texts", _is_texts)
_TEXT = ("text or null", _is_text_or_null)
_MAPPING = ("a mapping", lambda v: isinstance(v, dict))
_FIGURES = ("a mapping to numbers or null", _is_figures)
RULES: dict[str, tuple[str, Any]] = {
    "id": ("text", lambda v: isinstance(v, str) and bool(v)),
    "seed": ("a whole number", lambda v: _is_int(v) and abs(v) < 1 << 63),
    "status": (f"one of {', '.join(STATUSES)}", lambda v: isinstance(v, str) and v in STATUSES),
    "choices": (
        "a mapping to text",
        lambda v: isinstance(v, dict) and all(isinstance(x, str) for x in v.values()),
    ),
    "seconds": ("a number or null", lambda v: v is None or is_number(v)),
    "quality": ("empty, or a name and whether lower_is_better", _is_quality),
    **dict.fromkeys(("overrides", "flags"), _TEXTS),
    **dict.fromkeys(("sweep", "started", "error"), _TEXT),
    **dict.fromkeys(("config", "fingerprints", "git", "env", "data"), _MAPPING),
    **dict.fromkeys(("size", "metrics", "cost", "phases"), _FIGURES),
}
