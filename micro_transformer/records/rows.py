"""Records → rows: one row per configuration, its seeds pooled, named by what varies in the sweep.

What must not be averaged is separated: tasks and tokenizers in boards of their own; rows made by
different code, data or library versions in rows of their own, unless the caller asks to mix them.
"""

import json
import re
import statistics
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

from micro_transformer.hashing import digest
from micro_transformer.records.run_record import (
    FAILED,
    INVALID,
    MEASURED_BESIDE,
    NAN,
    OK,
    OOM,
    TRAINED_BESIDE,
    RunRecord,
    leaves,
)
from micro_transformer.wording import _, plural

# Where and when a run happened is no factor; a seed is a repetition.
NO_FACTOR = re.compile(r"(seed|check|(run|store|data|hydra)(\..*)?)$")
ABSENT = "—"
TRAINING_COSTS = ("train/seconds", "train/ms_per_step", "train/tokens_per_s")


class Setting(str):
    """Where and how costs were measured; comparable within one that no concurrent job disturbed."""

    device: str  # cpu or cuda
    is_disturbed: bool


@dataclass(frozen=True)
class Summary:
    """Mean and sample deviation (n - 1) of n values; no deviation for n < 2."""

    mean: float | None
    std: float | None
    n: int

    @classmethod
    def of(cls, values: Iterable[float | None]) -> "Summary":
        """The summary of the values that are there."""
        known = [float(v) for v in values if v is not None]
        return cls(
            statistics.fmean(known) if known else None,
            statistics.stdev(known) if len(known) > 1 else None,
            len(known),
        )


@dataclass
class Row:
    """A configuration. ok: one record per seed; bad: records without a result."""

    levels: dict[str, str]
    ok: list[RunRecord]
    bad: list[RunRecord]
    missing: list[int]

    @property
    def name(self) -> str:
        """The configuration by what varies and it has: `posenc=rope cache=paged`."""
        held = (f"{k}={v}" for k, v in self.levels.items() if v != ABSENT)
        return " ".join(held) or _("as configured")

    @property
    def seeds(self) -> list[int]:
        """The seeds that gave a result."""
        return [record.seed for record in self.ok]

    def values(self, key: str) -> list[float | None]:
        """A metric or cost of each record in `ok`."""
        return [value_of(record, key) for record in self.ok]

    def summary(
        self, key: str, setting: str | None = None, seeds: Collection[int] | None = None
    ) -> Summary:
        """Mean and deviation of a metric, or of a cost measured in one setting, over some seeds."""
        return Summary.of(
            value_of(r, key)
            for r in self.ok
            if (setting is None or setting_of(r) == setting) and (seeds is None or r.seed in seeds)
        )

    @property
    def is_invalid(self) -> bool:
        """The combination is invalid, such as a RoPE scaling without RoPE."""
        return not self.ok and bool(self.bad) and all(r.status == INVALID for r in self.bad)

    @property
    def reason(self) -> str:
        """Why there is no result, "" when there is one."""
        return "" if self.ok else reason(self.bad[0]) if self.bad else _("not run")


@dataclass
class Board:
    """Rows whose figures may be compared: one task, one tokenizer."""

    title: str
    factors: list[str]
    rows: list[Row]
    seeds: list[int]
    mixed: list[str] = field(default_factory=list)  # what differs that should not
    duplicates: int = 0
    disagreeing: list[str] = field(default_factory=list)  # runs whose records contradict each other

    @property
    def records(self) -> list[RunRecord]:
        """The records with a result, of all rows."""
        return [record for row in self.rows for record in row.ok]

    @property
    def settings(self) -> list[Setting]:
        """Every setting in which costs were measured; they are never shown in one column."""
        return sorted({setting_of(record) for record in self.records})

    def gaps(self) -> list[str]:
        """Facts that a reader of the means needs, one per line; without invalid combinations."""
        found = [
            _("{what}: rows are listed separately and not compared", what=what)
            for what in self.mixed
        ]
        found += [_("records disagree: {name}", name=name) for name in self.disagreeing]
        for row in self.rows:
            lost = [f"seed {r.seed} {reason(r)}" for r in row.bad if r.status != INVALID]
            if lost or (row.missing and not row.is_invalid):
                lost += [_("seed {seed} missing", seed=seed) for seed in row.missing]
                found.append(f"{row.name}: {'; '.join(lost)}")
        return found


def collect(records: list[RunRecord], mix: bool = False) -> list[Board]:
    """The records on boards. `mix` pools rows although code, data or versions differ."""
    boards: dict[str, list[RunRecord]] = {}
    for record in records:
        boards.setdefault(_board_of(record), []).append(record)
    return [_board(title, group, mix) for title, group in sorted(boards.items())]


def value_of(record: RunRecord, key: str) -> float | None:
    """A metric or cost. Memory of a device that is not there is absent, whatever was written, and
    so is the time of a training with concurrent jobs where the rest was measured alone."""
    if key == "mem/peak_vram_gb" and record.env.get("device") != "cuda":
        return None
    if key in TRAINING_COSTS and TRAINED_BESIDE in record.flags and not _beside(record):
        return None
    return record.metrics.get(key, record.cost.get(key))


def setting_of(record: RunRecord) -> Setting:
    """The setting of a record: device, hardware, threads, schema, concurrent jobs."""
    env, disturbed = record.env, _beside(record)
    hardware = env.get("gpu") or env.get("cpu")
    threads = env.get("threads")
    named = plural(threads, "{n} thread", "{n} threads") if isinstance(threads, int) else threads
    parts = [env.get("device", _("unknown device")), hardware, named]
    parts.append(_("schema {n}", n=record.schema) if record.schema != 1 else None)
    parts.append(_("with concurrent jobs") if disturbed else None)
    setting = Setting(", ".join(str(part) for part in parts if part))
    setting.device, setting.is_disturbed = env.get("device", ""), disturbed
    return setting


def shared_name(rows: list[Row]) -> str:
    """What the rows have in common: `posenc=rope (4 alike)`."""
    first = rows[0].levels.items()
    shared = [f"{k}={v}" for k, v in first if all(row.levels[k] == v for row in rows)]
    return " ".join([*shared, f"({len(rows)} alike)"]) if len(rows) > 1 else rows[0].name


def _beside(record: RunRecord) -> bool:
    return MEASURED_BESIDE in record.flags


def reason(record: RunRecord) -> str:
    """Why a run has no result, short: `OOM @ 4096`, `failed: ...`."""
    first = (record.error or "").strip().split("\n")[0][:160]
    if record.status == OOM:
        at = re.search(r"@ ?(\d+)", first)
        return f"OOM @ {at[1]}" if at else "OOM"
    words = {INVALID: _("invalid combination"), NAN: _("diverged"), FAILED: _("failed")}
    word = words.get(record.status, record.status)
    return f"{word}: {first}" if first else word


def level_of(values: dict[str, Any], key: str) -> str:
    """A factor's value as a row names it."""
    value = values.get(key, ABSENT)
    return value if isinstance(value, str) else json.dumps(value)


def _board_of(record: RunRecord) -> str:
    task = record.choices.get("task", _("one task"))
    config = record.config.get("task")
    knob = config.get("tokenizer") if isinstance(config, dict) else None
    tokenizer = record.data.get("tokenizer", knob)
    if tokenizer is None:
        return task
    return _("{task}, tokenizer {name}", task=task, name=_text(tokenizer))


def _board(title: str, records: list[RunRecord], mix: bool) -> Board:
    values = [r.meant or dict(leaves(r.config)) | dict(r.choices) for r in records]
    factors = find_factors(records, values)
    levels = [{f: level_of(v, f) for f in factors} for v in values]
    mixed = _mixtures(records, levels)
    if not mix:
        for what, part in mixed.items():
            for record, named in zip(records, levels, strict=True):
                named[what] = part(record)
    board = Board(title, factors, [], sorted({r.seed for r in records}))
    board.mixed = [] if mix else [_mixture_in_words(w, p, records) for w, p in mixed.items()]
    cells: dict[tuple[str, ...], list[int]] = {}
    for i, named in enumerate(levels):
        cells.setdefault(tuple(named.values()), []).append(i)
    for members in cells.values():
        board.rows.append(_row(levels[members[0]], [records[i] for i in members], board))
    return board


def _row(levels: dict[str, str], records: list[RunRecord], board: Board) -> Row:
    """Each seed counts once: a result before a failure, then the first by path."""
    by_seed: dict[int, list[RunRecord]] = {}
    for record in records:
        by_seed.setdefault(record.seed, []).append(record)
    row = Row(levels, [], [], sorted(set(board.seeds) - set(by_seed)))
    for seed, twins in sorted(by_seed.items()):
        results = [r for r in twins if r.status == OK]
        board.duplicates += len(twins) - 1
        if any(r.metrics != results[0].metrics for r in results[1:]):
            board.disagreeing.append(f"{row.name} seed={seed}")
        (row.ok if results else row.bad).append((results or twins)[0])
    return row


def find_factors(records: list[RunRecord], values: list[dict[str, Any]]) -> list[str]:
    """The keys that tell the configurations apart: what the user swept, then whatever else differs
    and does not follow from those (the base of RoPE follows from posenc=rope)."""
    asked = dict.fromkeys(
        text.split("=", 1)[0].lstrip("+~") for r in records for text in r.overrides if "=" in text
    )
    choices = dict.fromkeys(key for r in records for key in r.choices)
    keys = dict.fromkeys([*asked, *choices, *(key for v in values for key in v)])
    texts = {key: [level_of(v, key) for v in values] for key in keys if not NO_FACTOR.match(key)}
    varied = {key: column for key, column in texts.items() if len(set(column)) > 1}
    kept = [key for key in varied if key in asked]
    for key, column in varied.items():
        known = list(zip(*(varied[k] for k in kept), strict=True)) or [()] * len(records)
        if key not in kept and len(set(zip(known, column, strict=True))) > len(set(known)):
            kept.append(key)
    return kept


def _mixtures(
    records: list[RunRecord], levels: list[dict[str, str]]
) -> dict[str, Callable[[RunRecord], str]]:
    """What differs between records that only their seed should tell apart → how to read it."""
    config = [tuple(named.values()) for named in levels]
    task = [json.dumps(r.config.get("task"), sort_keys=True) for r in records]
    same = [""] * len(records)
    checks: dict[str, tuple[list[Any], Callable[[RunRecord], str]]] = {
        "data": (task, lambda r: _text(r.fingerprints.get("data", r.data.get("sha256")))),
        "code": (config, lambda r: _text(r.fingerprints.get("code"))),
        "torch": (same, lambda r: _text(r.env.get("torch"))),
        "python": (same, lambda r: ".".join(str(r.env.get("python")).split(".")[:2])),
        "schema": (same, lambda r: str(r.schema)),
    }
    found = {}
    for what, (scope, part) in checks.items():
        pairs = {(key, part(r)) for key, r in zip(scope, records, strict=True)}
        if len(pairs) > len(set(scope)) or (what == "code" and _modules_differ(records)):
            found[what] = part
    return found


def _modules_differ(records: list[RunRecord]) -> bool:
    """Whether two records name different digests for one module (code as module → digest)."""
    codes = [r.fingerprints.get("code") for r in records]
    pairs = {item for code in codes if isinstance(code, dict) for item in leaves(code)}
    return len(pairs) > len({module for module, _ in pairs})


def _mixture_in_words(what: str, part: Callable[[RunRecord], str], records: list[RunRecord]) -> str:
    counts = Counter(part(r) for r in records)
    return f"mixed {what} (" + ", ".join(f"{v}: {n} runs" for v, n in counts.most_common()) + ")"


def _text(value: Any) -> str:
    return digest(value) if isinstance(value, dict | list) else str(value)[:40]
