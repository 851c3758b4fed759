"""Runs one job from its configuration to its record, also when it fails. Independent of Hydra."""

import logging
import time
import traceback
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from micro_transformer import disk
from micro_transformer.config import compatibility, excerpts, expert_rules
from micro_transformer.config.resolve import resolve
from micro_transformer.config.sections import Run
from micro_transformer.data.configured import data_digest, other_tokenizer, split_lengths
from micro_transformer.machine import environment, git_state
from micro_transformer.records import run_record
from micro_transformer.records.run_record import RunRecord
from micro_transformer.runs import supervise, sweep_state
from micro_transformer.runs.endings import LOG, show_samples, tell, write
from micro_transformer.runs.job_phases import (
    CHECK,
    MEASURE,
    Phase,
    concurrent,
    seconds,
    train_and_measure,
)
from micro_transformer.runs.planning import Job, identity
from micro_transformer.runs.work import Measured
from micro_transformer.stop import COMMAND
from micro_transformer.store import trainings
from micro_transformer.store.checkpoints import Damaged, Entry
from micro_transformer.store.fingerprints import Fingerprints, fingerprints
from micro_transformer.store.trainings import Training
from micro_transformer.training.ranks import Ranks
from micro_transformer.wording import _

log = logging.getLogger(__name__)
POLL_S = 0.5
BOTH, COSTS = ("eval", "bench"), ("bench",)


@dataclass(frozen=True)
class Ended:
    """A finished job: its record and the exit code for the command."""

    record: RunRecord
    exit_code: int


def attempt(job: Job) -> Ended | sweep_state.Holder:
    """The finished job, or the process that already works on it. Errors inside the job become its
    record; raises only DiskFull, when the disk has no space to start the job."""
    try:
        with sweep_state.claim(job.folder) as holder, COMMAND.deferred():
            return holder or _run(job)
    except disk.DiskFull:
        raise
    except OSError as error:
        outcome = supervise.Outcome(run_record.FAILED, error=disk.in_words(error, job.folder))
        record = _record(job, job.config, None, [Phase(CHECK, outcome)])
        log.error("%s: %s", job.folder.name, record.error)
        return Ended(record, disk.BAD_IO)


def run_job(job: Job) -> Ended:
    """The finished job, after waiting for any other process that works on it."""
    told = False
    while isinstance(end := attempt(job), sweep_state.Holder):
        if not told:
            log.warning(_("%s: %s works on it; waiting"), job.folder.name, end)
        told = True
        time.sleep(POLL_S)
    return end


def is_recorded(job: Job) -> bool:
    """Whether the job has a final record for its current fingerprint, and run.force is off."""
    config = resolve(job.config)
    known = sweep_state.read_record(job.folder)
    if known is None or _settings(config).force:
        return False
    return _still_true(known, fingerprints(config, data_digest(config)))


def help_train(job: Job) -> int:
    """Runs a rank other than the first, which joins the training but writes no record; returns its
    exit code."""
    config = resolve(job.config)
    training = trainings.of(config, fingerprints(config, data_digest(config)))
    with COMMAND.deferred():
        return 0 if is_recorded(job) or _rules(config) else _help(job, training)


def _help(job: Job, training: Training) -> int:
    with suppress(Damaged):  # the first rank sets the damaged training aside and trains again
        if training.entry.verify():
            return 0
    if training.base is not None and (code := _help(job, training.base)):
        return code
    log_file = job.folder / f"rank{Ranks.started().rank}.log"
    outcome = supervise.run("micro_transformer.runs.worker:train", *training.work, log=log_file)
    if outcome.status != run_record.OK:
        log.error(_("rank %d: %s: %s"), Ranks.started().rank, outcome.status, outcome.error)
    return int(outcome.status != run_record.OK)


def account_for(job: Job) -> None:
    """The job has a record: its own, once the process that works on it has ended; if that process
    left none, one with status `killed`, which the same command retries."""
    while sweep_state.is_claimed(job.folder):
        time.sleep(POLL_S)
    if sweep_state.read_record(job.folder) is None:
        lost = supervise.Outcome(run_record.KILLED, error="its worker ended without a record")
        record = _record(job, resolve(job.config), None, [Phase(CHECK, lost)])
        write(record, job.folder)
        tell(job.folder, record)


def _run(job: Job) -> Ended:
    """The job has been run and recorded, unless its record still matches configuration, code and
    data."""
    started, clock = datetime.now(UTC), time.monotonic()
    config: dict[str, Any] = job.config
    prints = None
    try:
        config = resolve(job.config)
        prints = fingerprints(config, data_digest(config))
        known = sweep_state.read_record(job.folder)
        if known and _still_true(known, prints) and not _settings(config).force:
            log.info(_("%s: recorded before"), job.folder.name)
            return Ended(known, 0)
        phases = _work(job, config, prints)
    except Exception as error:  # a bug in the lab: this job fails, the sweep goes on
        with suppress(OSError), open(job.folder / LOG, "a", encoding="utf-8") as file:
            file.write(traceback.format_exc())
        phases = [Phase(CHECK, supervise.failure(error))]
    record = _record(job, config, prints, phases)
    record.started, record.seconds = started.isoformat(timespec="seconds"), time.monotonic() - clock
    outcome = phases[-1].outcome
    code = write(record, job.folder, _measured(outcome).history) or outcome.exit_code
    tell(job.folder, record)
    if record.status == run_record.OK:
        show_samples(job.folder, _settings(config).show_samples)
    return Ended(record, code)


def _settings(config: dict[str, Any]) -> Run:
    return Run(**config["run"])


def _still_true(known: RunRecord, prints: Fingerprints) -> bool:
    return run_record.is_final(known) and known.fingerprints.get("run") == prints.run


def _work(job: Job, config: dict[str, Any], prints: Fingerprints) -> list[Phase]:
    """The job's phases: a check, then training and measurement, each in its own process, so that
    neither affects the other's timings and memory peaks."""
    if rules := _rules(config):
        outcome = supervise.Outcome(run_record.INVALID, error="; ".join(rules), exit_code=2)
        return [Phase(CHECK, outcome)]
    groups = BOTH[:1] if _measures_costs_later(job, config) else BOTH
    return train_and_measure(job, trainings.of(config, prints), groups)


def _rules(config: dict[str, Any]) -> list[str]:
    """The rules that the configuration breaks, by itself or given its data."""
    lengths = split_lengths(config)
    by_data = excerpts.beyond_the_text(config, lengths) + other_tokenizer(config)
    return compatibility.conflicts(config) + by_data


def _measures_costs_later(job: Job, config: dict[str, Any]) -> bool:
    return job.in_sweep and _settings(config).bench == "alone" and bool(config["bench"]["measures"])


def _measured(outcome: supervise.Outcome) -> Measured:
    return outcome.value if outcome.status == run_record.OK else Measured()


def _record(
    job: Job, config: dict[str, Any], prints: Fingerprints | None, phases: list[Phase]
) -> RunRecord:
    outcome = phases[-1].outcome
    measured = _measured(outcome)
    known = {k: v for k, v in asdict(prints).items() if k != "factors"} if prints else {}
    env = environment(config["device"], config["bench"]["threads"])
    record = RunRecord(
        id=identity(job.config),
        sweep=_settings(config).sweep or job.folder.parent.name,
        choices=job.choices,
        overrides=list(job.overrides),
        config=config,
        seed=config["seed"],
        fingerprints=known,
        git=git_state(),
        status=outcome.status,
        error=outcome.error,
        env=env
        | {
            "dtype": measured.dtype,
            "attention": measured.attention,
            "jobs_beside": concurrent(phases, MEASURE),
        },
        phases=seconds(phases),
        size=dict(measured.size),
        metrics=measured.metrics,
        cost=measured.cost,
        data=measured.data,
        quality=measured.quality,
        flags=list(outcome.flags),
    )
    if outcome.status == run_record.OK and prints:
        record.flags = _flags(job, config, prints, phases)
    return record


def _flags(
    job: Job, config: dict[str, Any], prints: Fingerprints, phases: list[Phase]
) -> list[str]:
    """Warnings about the reliability of the costs in the record, and remarks on what was run."""
    trained = Entry(Path(config["store"]["dir"]), prints.train).notes()
    later = _measures_costs_later(job, config)
    marks = {
        run_record.TRAINED_BESIDE: bool(trained.get("beside")),
        run_record.MEASURED_BESIDE: bool(concurrent(phases, MEASURE)) and not later,
        run_record.COSTS_PENDING: later,
    }
    return [*(flag for flag, holds in marks.items() if holds), *expert_rules.remarks(config)]


def measure_alone(job: Job) -> None:
    """The job's costs are measured if they were postponed or disturbed by concurrent jobs."""
    try:
        with sweep_state.claim(job.folder) as holder, COMMAND.deferred():
            record = sweep_state.read_record(job.folder)
            doubtful = {run_record.COSTS_PENDING, run_record.MEASURED_BESIDE}
            if holder is None and record is not None and doubtful & set(record.flags):
                _measure_costs(job, record)
    except OSError as error:
        log.error("%s: %s", job.folder.name, disk.in_words(error, job.folder))


def _measure_costs(job: Job, record: RunRecord) -> None:
    """The record is rewritten with newly measured costs, or with the reason for the failure."""
    config = resolve(job.config)
    training = trainings.of(config, fingerprints(config, data_digest(config)))
    measured = train_and_measure(job, training, COSTS)[-1]
    outcome = measured.outcome
    if outcome.status == run_record.INTERRUPTED:
        return
    if outcome.status != run_record.OK:
        record.status, record.error = outcome.status, outcome.error
    else:
        passing = {run_record.COSTS_PENDING, run_record.MEASURED_BESIDE}
        record.cost = outcome.value.cost
        record.flags = [flag for flag in record.flags if flag not in passing]
        record.flags += [run_record.MEASURED_BESIDE] if measured.concurrent else []
        record.env["jobs_beside"] = measured.concurrent
        ran = {*record.env.get("attention", ()), *outcome.value.attention}
        record.env["attention"] = sorted(ran)
    write(record, job.folder)
    tell(job.folder, record)
