"""One job from its configuration to its record, whatever happens on the way. Knows no Hydra."""

import json
import logging
import time
import traceback
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from micro_transformer import fits, lineage, results, store, supervise, sweepfolder
from micro_transformer.identity import Fingerprints, data_digest, fingerprints
from micro_transformer.lineage import Training
from micro_transformer.planning import Job, identity
from micro_transformer.presence import Presence
from micro_transformer.ranks import Ranks, need
from micro_transformer.repro import environment, git_state, resolve
from micro_transformer.results import RunRecord
from micro_transformer.store import Damaged, Entry

log = logging.getLogger(__name__)
SAMPLES, SAMPLE_MARK, LOG = "samples.txt", "=== sample", "run.log"
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
    """The job's end, or who works on it already. Never raises for what happens in a job."""
    with sweepfolder.claim(job.folder) as holder:
        return holder or _run(job)


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
    return 0 if is_recorded(job) else _help(job, training)


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
        _written(record, job.folder, 1)
        _tell(job.folder, record)


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
        with open(job.folder / LOG, "a", encoding="utf-8") as file:
            file.write(traceback.format_exc())
        phases.outcome = supervise.failure(error)
    record = _record(job, config, prints, phases)
    record.started, record.seconds = started.isoformat(timespec="seconds"), time.monotonic() - clock
    code = _written(record, job.folder, phases.outcome.exit_code)
    _tell(job.folder, record)
    if record.status == results.OK:
        _show_samples(job.folder, config["run"]["show_samples"])
    return Ended(record, code)


def _still_true(known: RunRecord, prints: Fingerprints) -> bool:
    return results.is_final(known) and known.fingerprints.get("run") == prints.run


def _work(job: Job, config: dict[str, Any], prints: Fingerprints, phases: Phases) -> None:
    """Trains and measures, each in a process of its own, so that no figure of the one is mixed
    with the other's."""
    rules = fits.misfits(config)
    if rules:
        phases.outcome = supervise.Outcome(results.INVALID, error="; ".join(rules))
        return
    training = lineage.of(config, prints)
    if _train(job, training, phases):
        groups = BOTH[:1] if _measures_costs_later(job, config) else BOTH
        _phase(phases, job, "measure", config, training.entry, job.folder, groups)


def _train(job: Job, training: Training, phases: Phases, name: str = "train") -> bool:
    """Whether the training lies in the store; what was not there is trained, its base first."""
    if training.is_stored():
        return True
    if training.base is not None and not _train(job, training.base, phases, "base"):
        return False
    need(training.config["ranks"])
    _phase(phases, job, "train", *training.work, name=name)
    if phases.outcome.status != results.OK:
        return False
    training.entry.note({"seconds": phases.seconds[name], "beside": phases.beside[name]})
    return True


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
            stderr=log_file if job.in_sweep else None,
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
        _write_history(job.folder, value.get("history", []))
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


def _write_history(folder: Path, history: list[dict[str, Any]]) -> None:
    if history:
        lines = "".join(json.dumps(line) + "\n" for line in history)
        store.write_file(folder / results.HISTORY, lines.encode())


def _written(record: RunRecord, folder: Path, code: int) -> int:
    """The exit code of the job; that of bad I/O when there was no room for its record."""
    try:
        record.write(folder)
    except (OSError, store.DiskFull, results.NotARecord) as error:
        record.status, record.error = results.FAILED, f"its record cannot be written: {error}"
        return 3
    return code


def measure_alone(job: Job) -> None:
    """The costs of a job that were measured beside others, or not yet, are measured again."""
    with sweepfolder.claim(job.folder) as holder:
        record = sweepfolder.read_record(job.folder)
        doubtful = {results.COSTS_PENDING, results.MEASURED_BESIDE}
        if holder or record is None or not doubtful & set(record.flags):
            return
        config = resolve(job.config)
        entry = Entry(Path(config["store"]["dir"]), str(record.fingerprints.get("train")))
        phases = Phases(supervise.Outcome(results.OK), {}, {})
        _phase(phases, job, "measure", config, entry, job.folder, COSTS)
        if phases.outcome.status != results.OK:
            record.status, record.error = phases.outcome.status, phases.outcome.error
        else:
            record.cost = phases.outcome.value["cost"]
            record.flags = [flag for flag in record.flags if flag not in doubtful]
            record.flags += [results.MEASURED_BESIDE] if phases.beside["measure"] else []
            record.env["jobs_beside"] = phases.beside["measure"]
        _written(record, job.folder, 0)
        _tell(job.folder, record)


def _tell(folder: Path, record: RunRecord) -> None:
    """A job's end in one line, as it happens."""
    if record.status in (results.OK, results.INVALID):
        log.info("%s: %s", folder.name, _line(record))
    else:
        log.error("%s: %s (log: %s)", folder.name, _line(record), folder / LOG)


def _line(record: RunRecord) -> str:
    if record.status != results.OK:
        return f"{record.status}: {record.error}"
    shown = {"val/loss": "{:.4f} nats", "val/ppl": "PPL {:.3f}"}
    costs = {"decode/tokens_per_s": "{:.0f} tokens/s", "train/ms_per_batch": "{:.0f} ms/batch"}
    parts = [text.format(record.metrics[k]) for k, text in shown.items() if k in record.metrics]
    parts += [text.format(record.cost[k]) for k, text in costs.items() if record.cost.get(k)]
    return ", ".join([*parts, *record.flags]) or results.OK


def _show_samples(folder: Path, count: int) -> None:
    """Prints the first samples of a job, when its evaluation wrote some."""
    path = folder / SAMPLES
    if count and path.is_file():
        samples = path.read_text(encoding="utf-8").split(SAMPLE_MARK)[1 : count + 1]
        print("\n".join((SAMPLE_MARK + sample).rstrip() for sample in samples))
