"""One job from its configuration to its record, whatever happens on the way. Knows no Hydra."""

import logging
import time
import traceback
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from micro_transformer import disk, fits, lineage, results, supervise, sweepfolder
from micro_transformer.endings import LOG, show_samples, tell, write
from micro_transformer.identity import Fingerprints, data_digest, fingerprints, split_lengths
from micro_transformer.lineage import Training
from micro_transformer.planning import Job, identity
from micro_transformer.presence import Presence
from micro_transformer.ranks import Ranks, need
from micro_transformer.repro import environment, git_state, resolve
from micro_transformer.results import RunRecord
from micro_transformer.stop import COMMAND
from micro_transformer.store import Damaged, Entry

log = logging.getLogger(__name__)
POLL_S = 0.5
BOTH, COSTS = ("eval", "bench"), ("bench",)


@dataclass(frozen=True)
class Ended:
    """A job's record and the exit code it asks for."""

    record: RunRecord
    exit_code: int


@dataclass
class Phases:
    """What was done for a record: the end of the last phase, seconds and neighbours of each.

    `train` and `measure` are the seconds of the whole process, `train/work` and `measure/work`
    those of the loop and the measures in it.
    """

    outcome: supervise.Outcome
    seconds: dict[str, float]
    beside: dict[str, int]


def attempt(job: Job) -> Ended | sweepfolder.Holder:
    """The job's end, or who works on it already. Never raises for what happens in a job; DiskFull
    when there is no room to begin one."""
    try:
        with sweepfolder.claim(job.folder) as holder, COMMAND.deferred():
            return holder or _run(job)
    except disk.DiskFull:
        raise
    except OSError as error:
        outcome = supervise.Outcome(results.FAILED, error=disk.in_words(error, job.folder))
        record = _record(job, job.config, None, Phases(outcome, {}, {}))
        log.error("%s: %s", job.folder.name, record.error)
        return Ended(record, disk.BAD_IO)


def run_job(job: Job) -> Ended:
    """The job's end; another process that works on it is waited for."""
    told = False
    while isinstance(end := attempt(job), sweepfolder.Holder):
        if not told:
            log.warning("%s: %s works on it; waiting", job.folder.name, end)
        told = True
        time.sleep(POLL_S)
    return end


def is_recorded(job: Job) -> bool:
    """Whether the job has a final record that is still true, and nothing asks for another."""
    config = resolve(job.config)
    known = sweepfolder.read_record(job.folder)
    if known is None or config["run"]["force"]:
        return False
    return _still_true(known, fingerprints(config, data_digest(config)))


def help_train(job: Job) -> int:
    """Exit code of a rank that is not the first: it trains with the others and records nothing."""
    config = resolve(job.config)
    training = lineage.of(config, fingerprints(config, data_digest(config)))
    with COMMAND.deferred():
        return 0 if is_recorded(job) or _rules(config) else _help(job, training)


def _help(job: Job, training: Training) -> int:
    with suppress(Damaged):  # the first rank sets it aside and trains again
        if training.entry.verify():
            return 0
    if training.base is not None and (code := _help(job, training.base)):
        return code
    log_file = job.folder / f"rank{Ranks.started().rank}.log"
    outcome = supervise.run("micro_transformer.worker:train", *training.work, log=log_file)
    if outcome.status != results.OK:
        log.error("rank %d: %s: %s", Ranks.started().rank, outcome.status, outcome.error)
    return int(outcome.status != results.OK)


def account_for(job: Job) -> None:
    """The job has a record: its own when the process that works on it is done, else that it was
    killed, which the same command tries again."""
    while sweepfolder.is_claimed(job.folder):
        time.sleep(POLL_S)
    if sweepfolder.read_record(job.folder) is None:
        lost = supervise.Outcome(results.KILLED, error="its worker ended without a record")
        record = _record(job, resolve(job.config), None, Phases(lost, {}, {}))
        write(record, job.folder)
        tell(job.folder, record)


def _run(job: Job) -> Ended:
    """A final record that is still true of this configuration, code and data is kept."""
    started, clock = datetime.now(UTC), time.monotonic()
    config: dict[str, Any] = job.config
    prints, phases = None, Phases(supervise.Outcome(results.OK), {}, {})
    try:
        config = resolve(job.config)
        prints = fingerprints(config, data_digest(config))
        known = sweepfolder.read_record(job.folder)
        if known and _still_true(known, prints) and not config["run"]["force"]:
            log.info("%s: recorded before", job.folder.name)
            return Ended(known, 0)
        _work(job, config, prints, phases)
    except Exception as error:  # in our own code: this job's failure, not the sweep's end
        with suppress(OSError), open(job.folder / LOG, "a", encoding="utf-8") as file:
            file.write(traceback.format_exc())
        phases.outcome = supervise.failure(error)
    record = _record(job, config, prints, phases)
    record.started, record.seconds = started.isoformat(timespec="seconds"), time.monotonic() - clock
    history = (phases.outcome.value or {}).get("history", [])
    code = write(record, job.folder, history) or phases.outcome.exit_code
    tell(job.folder, record)
    if record.status == results.OK:
        show_samples(job.folder, config["run"]["show_samples"])
    return Ended(record, code)


def _still_true(known: RunRecord, prints: Fingerprints) -> bool:
    return results.is_final(known) and known.fingerprints.get("run") == prints.run


def _work(job: Job, config: dict[str, Any], prints: Fingerprints, phases: Phases) -> None:
    """Trains and measures, each in a process of its own, so that no figure of the one is mixed
    with the other's."""
    if rules := _rules(config):
        phases.outcome = supervise.Outcome(results.INVALID, error="; ".join(rules), exit_code=2)
        return
    groups = BOTH[:1] if _measures_costs_later(job, config) else BOTH
    _measure(job, lineage.of(config, prints), phases, groups)


def _measure(job: Job, training: Training, phases: Phases, groups: Sequence[str]) -> None:
    """The trained model is measured. What turns out to be of another net is trained again, once."""
    with training.entry.held():
        for _ in range(2):
            if not _train(job, training, phases):
                return
            entry = training.entry
            _phase(phases, job, "measure", training.config, entry, job.folder, groups)
            if not _is_damage(phases):
                return
            training.set_aside(str(phases.outcome.error))


def _rules(config: dict[str, Any]) -> list[str]:
    """What a job breaks by its knobs, and by its knobs against the data."""
    return fits.misfits(config) + fits.beyond_the_text(config, split_lengths(config))


def _train(job: Job, training: Training, phases: Phases, name: str = "train") -> bool:
    """Whether the training lies in the store; what was not there is trained, its base first."""
    base = training.base
    if training.is_stored():
        return True
    with ExitStack() as held:
        for _ in range(2):
            if base is not None:
                held.enter_context(base.entry.held())
                if not _train(job, base, phases, "base"):
                    return False
            need(training.config["ranks"])
            _phase(phases, job, "train", *training.work, name=name)
            if base is None or not _is_damage(phases):
                break
            base.set_aside(str(phases.outcome.error))
    if phases.outcome.status != results.OK:
        return False
    training.entry.note({"seconds": phases.seconds[name], "beside": phases.beside[name]})
    return True


def _is_damage(phases: Phases) -> bool:
    return phases.outcome.flags == Damaged.flags


def _measures_costs_later(job: Job, config: dict[str, Any]) -> bool:
    return job.in_sweep and config["run"]["bench"] == "alone" and bool(config["bench"]["measures"])


def _phase(
    phases: Phases, job: Job, work: str, config: dict[str, Any], *args: Any, name: str = ""
) -> None:
    """The worker's function `work` has run; phases says how, under another name if one is given."""
    name = name or work
    clock, log_file = time.monotonic(), job.folder / LOG
    with Presence() as presence:
        phases.outcome = supervise.run(
            f"micro_transformer.worker:{work}",
            config,
            *args,
            log=log_file,
            timeout_s=config["run"]["timeout_s"],
            output=log_file if job.in_sweep else None,
        )
    phases.seconds[name], phases.beside[name] = time.monotonic() - clock, presence.beside
    if phases.outcome.status == results.OK:
        phases.seconds[f"{name}/work"] = phases.outcome.value["seconds"]


def _record(
    job: Job, config: dict[str, Any], prints: Fingerprints | None, phases: Phases
) -> RunRecord:
    outcome = phases.outcome
    value = outcome.value or {}
    known = {k: v for k, v in asdict(prints).items() if k != "factors"} if prints else {}
    env = environment(config["device"], config["bench"]["threads"])
    record = RunRecord(
        id=identity(job.config),
        sweep=config["run"]["sweep"] or job.folder.parent.name,
        choices=job.choices,
        overrides=list(job.overrides),
        config=config,
        seed=config["seed"],
        fingerprints=known,
        git=git_state(),
        status=outcome.status,
        error=outcome.error,
        env=env | {"jobs_beside": phases.beside.get("measure")},
        phases=dict(phases.seconds),
        size=value.get("size", {}),
        metrics=value.get("metrics", {}),
        cost=value.get("cost", {}),
        data=value.get("data", {}),
        flags=list(outcome.flags),
    )
    if outcome.status == results.OK and prints:
        record.flags = _flags(job, config, prints, phases)
    return record


def _flags(job: Job, config: dict[str, Any], prints: Fingerprints, phases: Phases) -> list[str]:
    """What a reader of the costs must know."""
    trained = Entry(Path(config["store"]["dir"]), prints.train).notes()
    later = _measures_costs_later(job, config)
    marks = {
        results.TRAINED_BESIDE: bool(trained.get("beside")),
        results.MEASURED_BESIDE: bool(phases.beside.get("measure")) and not later,
        results.COSTS_PENDING: later,
    }
    return [flag for flag, holds in marks.items() if holds]


def measure_alone(job: Job) -> None:
    """The costs of a job that were measured beside others, or not yet, are measured again."""
    try:
        with sweepfolder.claim(job.folder) as holder, COMMAND.deferred():
            record = sweepfolder.read_record(job.folder)
            doubtful = {results.COSTS_PENDING, results.MEASURED_BESIDE}
            if holder is None and record is not None and doubtful & set(record.flags):
                _measure_costs(job, record)
    except OSError as error:
        log.error("%s: %s", job.folder.name, disk.in_words(error, job.folder))


def _measure_costs(job: Job, record: RunRecord) -> None:
    """The record holds costs that were measured now, or why they could not be."""
    config = resolve(job.config)
    training = lineage.of(config, fingerprints(config, data_digest(config)))
    phases = Phases(supervise.Outcome(results.OK), {}, {})
    _measure(job, training, phases, COSTS)
    if phases.outcome.status == results.INTERRUPTED:
        return
    if phases.outcome.status != results.OK:
        record.status, record.error = phases.outcome.status, phases.outcome.error
    else:
        passing = {results.COSTS_PENDING, results.MEASURED_BESIDE}
        record.cost = phases.outcome.value["cost"]
        record.flags = [flag for flag in record.flags if flag not in passing]
        record.flags += [results.MEASURED_BESIDE] if phases.beside["measure"] else []
        record.env["jobs_beside"] = phases.beside["measure"]
    write(record, job.folder)
    tell(job.folder, record)
