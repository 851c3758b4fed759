"""Forecasts time, disk and memory of a sweep from records of similar jobs on this machine.

A quantity without such records is reported as unknown, never guessed.
"""

import statistics
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from micro_transformer.config import compatibility
from micro_transformer.config.groups import GLOBAL_GROUPS, GROUPS, TRAINED_GROUPS
from micro_transformer.config.neutral import without_neutral
from micro_transformer.config.resolve import resolve
from micro_transformer.data.configured import data_digest
from micro_transformer.hashing import digest
from micro_transformer.instruction_sets import cpu_name
from micro_transformer.records import record_files, run_record
from micro_transformer.records.run_record import RunRecord
from micro_transformer.runs import sweep_state
from micro_transformer.runs.planning import Job, Plan
from micro_transformer.store import trainings
from micro_transformer.store.catalog import stored
from micro_transformer.store.fingerprints import fingerprints
from micro_transformer.store.trainings import Training

Config = dict[str, Any]
RECORDS = ("multirun", "outputs")
ALIKE = ("train", "base", "posenc", "pattern", "scaling")  # groups that hardly change what is timed
# What determines the cost of a step, besides knobs of the recipe, and the cost of measuring.
SIZED = (*(group for group in TRAINED_GROUPS if group not in ALIKE), "device")
MEASURED = (*(group for group in GROUPS if group not in (*ALIKE, *GLOBAL_GROUPS)), "device")
RECIPE = (
    "batch_size", "context", "accumulate", "optimizer", "precision", "matrix_dtype", "threads",
    "eval_every",
)  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """A job with a valid configuration, its training, and whether its record exists already."""

    job: Job
    config: Config
    training: Training
    is_recorded: bool


def forecast(plan: Plan) -> str:
    """The forecast as text: jobs, invalid combinations with the rule they break, trainings, and
    expected time, disk and memory, each "unknown" if nothing similar was recorded."""
    invalid = {job.folder.name: compatibility.conflicts(job.config) for job in plan.jobs}
    cells = [_cell(job) for job in plan.jobs if not invalid[job.folder.name]]
    todo = [cell for cell in cells if not cell.is_recorded]
    trainings, needed = _trainings(cells), _trainings(todo, missing=True)
    there = len(trainings) - len(_trainings(cells, missing=True))
    past, workers = _past(plan.folder), plan.workers or 1
    lines = [
        f"{len(plan.jobs)} jobs -> {plan.folder}",
        f"  valid      {len(cells)}, of which recorded {len(cells) - len(todo)}, to do {len(todo)}",
        *_invalid(invalid),
        f"  trainings  {len(trainings)}: {there} stored, {len(needed)} to train",
        f"  time       {_time(needed, todo, past, workers)}",
        f"  disk       {_disk(needed)}",
        f"  memory     {_memory(todo, past, workers)}",
    ]
    return "\n".join(lines)


def _cell(job: Job) -> Cell:
    config = resolve(job.config)
    prints = fingerprints(config, data_digest(config))
    known = sweep_state.read_record(job.folder)
    is_recorded = (
        known is not None
        and run_record.is_final(known)
        and known.fingerprints.get("run") == prints.run
    )
    return Cell(job, config, trainings.of(config, prints), is_recorded)


def _trainings(cells: list[Cell], missing: bool = False) -> list[Training]:
    """The distinct trainings of the cells, including the base of each one that is not stored.
    missing: only those that are not in the store."""
    found: dict[str, Training] = {}
    for cell in cells:
        training: Training | None = cell.training
        while training is not None:
            is_stored = training.entry.is_complete()
            if not (missing and is_stored):
                found[training.entry.fingerprint] = training
            training = training.completes if is_stored else training.base
    return list(found.values())


def _invalid(rules: dict[str, list[str]]) -> list[str]:
    """Report lines: the number of invalid combinations, in total and per rule."""
    broken: dict[str, int] = {}
    for rule in ("; ".join(found) for found in rules.values() if found):
        broken[rule] = broken.get(rule, 0) + 1
    lines = (
        [f"  invalid    {sum(broken.values())} combinations: recorded, not run"] if broken else []
    )
    return lines + [f"    {count} x {rule}" for rule, count in broken.items()]


def _past(folder: Path) -> list[RunRecord]:
    """Successful records from this CPU model, in the default result folders and `folder`."""
    places = {Path(name).resolve() for name in RECORDS} | {folder.resolve()}
    roots = [p for p in places if not any(q in p.parents for q in places) and p.is_dir()]
    records = [record for root in roots for record in record_files.load_records(root).records]
    cpu = cpu_name()
    return [r for r in records if r.status == run_record.OK and r.env.get("cpu") == cpu]


def _training_key(config: Config) -> str:
    recipe = {key: config["train"].get(key) for key in RECIPE}
    known = without_neutral(config)
    return digest([*({key: known.get(key)} for key in SIZED), recipe])


def _measuring_key(config: Config) -> str:
    known = without_neutral(config)
    return digest([known.get(key) for key in MEASURED])


def _size_key(config: Config) -> str:
    return digest(without_neutral(config).get("model"))


def _medians(pairs: Iterable[tuple[str, float | None]]) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for key, value in pairs:
        if value is not None:
            found.setdefault(key, []).append(value)
    return {key: statistics.median(values) for key, values in found.items()}


def _step_times(record: RunRecord) -> Iterator[tuple[str, float]]:
    """(training key, seconds per step) of each training in a record: its own and its base's."""
    base = {**record.config, **(record.config.get("origin") or {})}
    for phase, config in (("train", record.config), ("base", base)):
        seconds, recipe = record.phases.get(phase), config.get("train")
        if seconds and recipe and recipe.get("steps"):
            yield _training_key(config), seconds / recipe["steps"]


def _time(needed: list[Training], todo: list[Cell], past: list[RunRecord], workers: int) -> str:
    """Expected wall time as text; without the cells that have no similar record."""
    a_step = _medians(pair for record in past for pair in _step_times(record))
    a_measurement = _medians((_measuring_key(r.config), r.phases.get("measure")) for r in past)
    times = [_of(a_step, _training_key, t.config) for t in needed]
    times = [
        s if s is None else s * t.config["train"]["steps"]
        for s, t in zip(times, needed, strict=True)
    ]
    untrained = times.count(None)
    times += [_of(a_measurement, _measuring_key, c.config) for c in todo]
    unmeasured = times.count(None) - untrained
    unknown = [f"{untrained} trainings"] * bool(untrained)
    unknown += [f"{unmeasured} measurements"] * bool(unmeasured)
    if times and len(times) == times.count(None):
        return "unknown: no record of a similar job on this machine"
    total = sum(t for t in times if t is not None) / workers
    words = f"about {sweep_state.in_words(total)}" if todo else "none"
    words += f" with {workers} jobs at once" if workers > 1 else ""
    return words + (f", and unknown for {' and '.join(unknown)}" if unknown else "")


def _of(known: dict[str, float], key: Callable[[Config], str], config: Config) -> float | None:
    return known.get(key(config))


def _disk(needed: list[Training]) -> str:
    """Disk space that the trainings add to the store, from stored trainings of the same model."""
    sizes = _medians(
        (_size_key(s.factors["config"]), float(s.size_bytes))
        for root in {Path(t.config["store"]["dir"]) for t in needed}
        for s in stored(root)
        if s.entry.is_complete()
    )
    found = [sizes.get(_size_key(t.config)) for t in needed]
    known = [size for size in found if size is not None]
    if found and not known:
        return "unknown: no such net is stored"
    words = f"{sum(known) / 1e6:.1f} MB more"
    return words + (f", and unknown for {found.count(None)} trainings" if None in found else "")


def _memory(todo: list[Cell], past: list[RunRecord], workers: int) -> str:
    """Expected peak memory: the largest peak of a similar job, times the number of workers."""
    peaks = _medians(
        (_measuring_key(r.config), max(filter(None, map(r.cost.get, _PEAKS)), default=None))
        for r in past
    )
    found = [_of(peaks, _measuring_key, cell.config) for cell in todo]
    known = [peak for peak in found if peak is not None]
    if not known:
        return "unknown: no record of a similar job on this machine" if todo else "none"
    return f"about {max(known) * workers:.2f} GB at the peak"


_PEAKS = ("train/peak_rss_gb", "decode/peak_rss_gb")
