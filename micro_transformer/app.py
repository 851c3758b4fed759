"""The command: compose, check, supervise, run, report. Never imports torch itself."""

import json
import logging
import sys
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from micro_transformer import results, schema, store, supervise
from micro_transformer.command_line import BadConfig
from micro_transformer.data.prepared import DataDamaged, DataMissing
from micro_transformer.identity import Fingerprints, data_digest, fingerprints
from micro_transformer.planning import Job, Plan, identity, make_plan
from micro_transformer.repro import environment, git_state, resolve
from micro_transformer.results import RunRecord
from micro_transformer.store import Damaged, Entry

log = logging.getLogger(__name__)
BAD_CONFIG, BAD_DATA = 2, 3
SAMPLES, SAMPLE_MARK = "samples.txt", "=== sample"
HYDRA_ONLY = {"--help", "-h", "--hydra-help", "--cfg", "-c", "--info", "-i", "--version"}


def main() -> None:
    """Exit 0: all done; 1: some jobs failed; 2: bad configuration; 3: bad data or I/O."""
    arguments = sys.argv[1:]
    if any(a.split("=")[0] in HYDRA_ONLY or a.startswith(("-sc", "--shell")) for a in arguments):
        _hydra_main()
        return
    try:
        plan = make_plan(arguments)
    except BadConfig as bad:
        for line in bad.lines:
            print(f"error: {line}", file=sys.stderr)
        sys.exit(BAD_CONFIG)
    if plan.jobs[0].config["check"]:
        print(describe(plan))
        return
    _need_data(plan)
    flags = [a for a in arguments if a.startswith("-")]
    sys.argv = [sys.argv[0], *plan.arguments, *flags]
    _hydra_main()
    sys.exit(_conclude(plan))


def describe(plan: Plan) -> str:
    """The resolved plan in words: cells, folders and the configuration of the first."""
    first = plan.jobs[0]
    rows = [f"{len(plan.jobs)} job{'s' * (len(plan.jobs) != 1)} -> {plan.folder}"]
    for job in plan.jobs:
        rule = "; ".join(schema.misfits(job.config))
        rows.append(
            f"  {job.folder.name}  {' '.join(job.overrides)}" + (f"  invalid: {rule}" * bool(rule))
        )
    rows += ["", f"configuration of {first.folder.name}:", OmegaConf.to_yaml(first.config)]
    return "\n".join(rows)


def _need_data(plan: Plan) -> None:
    """Exits with the command that gets what is missing; nothing is downloaded in a run."""
    missing = []
    for job in plan.jobs:
        try:
            data_digest(job.config)
        except (DataMissing, DataDamaged) as error:
            missing.append(str(error))
    for line in dict.fromkeys(missing):
        print(f"error: {line}", file=sys.stderr)
    if missing:
        sys.exit(BAD_DATA)


@hydra.main(version_base="1.3", config_path=str(schema.CONF), config_name="config")
def _hydra_main(cfg: DictConfig) -> None:
    """One job. It records how it ended and never raises for it, so that a sweep goes on."""
    settings = HydraConfig.get()
    config = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(config, dict)
    choices = {k: str(v) for k, v in settings.runtime.choices.items() if not k.startswith("hydra/")}
    folder = Path(settings.runtime.output_dir)
    job = Job(tuple(settings.overrides.task), choices, config, folder)  # type: ignore[arg-type]
    record, code = run_job(job)
    if record.status == results.INTERRUPTED:
        raise SystemExit(143 if "SIGTERM" in str(record.error) else 130)
    if settings.mode == RunMode.RUN and record.status != results.OK:
        raise SystemExit(code)


def run_job(job: Job) -> tuple[RunRecord, int]:
    """The record of the job, and the exit code it asks for.

    A final record that is still true of this configuration, code and data is kept, not made again.
    """
    config = resolve(job.config)
    prints = fingerprints(config, data_digest(config))
    known = _recorded(job.folder)
    if known and known.fingerprints.get("run") == prints.run and not config["run"]["force"]:
        log.info("%s: recorded before", job.folder.name)
        return known, 0
    started, clock = datetime.now(UTC), time.monotonic()
    rules = schema.misfits(config)
    if rules:
        outcome = supervise.Outcome(results.INVALID, error="; ".join(rules))
    else:
        outcome = _train_and_measure(job, config, prints)
    record = _record(job, config, prints, outcome)
    record.started, record.seconds = started.isoformat(timespec="seconds"), time.monotonic() - clock
    record.write(job.folder)
    log.info("%s: %s", job.folder.name, _line(record))
    _show_samples(job.folder, config["run"]["show_samples"])
    return record, outcome.exit_code


def _recorded(folder: Path) -> RunRecord | None:
    """The final record in a job's folder, if there is one that can be read."""
    try:
        record = results.read(folder / results.RECORD)
    except (OSError, results.NotARecord):
        return None
    return record if results.is_final(record) else None


def _train_and_measure(job: Job, config: dict[str, Any], prints: Fingerprints) -> supervise.Outcome:
    """Each in a process of its own, so that no figure of the one is mixed with the other's."""
    entry = Entry(Path(config["store"]["dir"]), prints.train)
    log_file, limit = job.folder / "run.log", config["run"]["timeout_s"]
    outcome = supervise.Outcome(results.OK)
    if not _is_trained(entry):
        outcome = supervise.run(
            "micro_transformer.worker:train",
            config,
            entry,
            prints.factors,
            log=log_file,
            timeout_s=limit,
        )
    if outcome.status == results.OK:
        outcome = supervise.run(
            "micro_transformer.worker:measure",
            config,
            entry,
            job.folder,
            log=log_file,
            timeout_s=limit,
        )
    return outcome


def _is_trained(entry: Entry) -> bool:
    """Whether a whole training lies in the store; a damaged one is named and set aside."""
    try:
        return entry.verify()
    except Damaged as damage:
        log.warning("%s; it is set aside and trained again", damage)
        entry.set_aside()
        return False


def _record(
    job: Job, config: dict[str, Any], prints: Fingerprints, outcome: supervise.Outcome
) -> RunRecord:
    value = outcome.value or {}
    history = value.get("history", [])
    if history:
        lines = "".join(json.dumps(line) + "\n" for line in history)
        store.write_file(job.folder / "history.jsonl", lines.encode())
    return RunRecord(
        id=identity(job.config),
        sweep=config["run"]["sweep"] or job.folder.parent.name,
        choices=job.choices,
        overrides=list(job.overrides),
        config=config,
        seed=config["seed"],
        fingerprints={k: v for k, v in asdict(prints).items() if k != "factors"},
        git=git_state(),
        status=outcome.status,
        error=outcome.error,
        env=environment(config["device"], config["bench"]["threads"]),
        size=value.get("size", {}),
        metrics=value.get("metrics", {}),
        cost=value.get("cost", {}),
        data=value.get("data", {}),
    )


def _line(record: RunRecord) -> str:
    """A job's end in one line."""
    if record.status != results.OK:
        return f"{record.status}: {record.error}"
    shown = {"val/loss": "{:.4f} nats", "val/ppl": "PPL {:.3f}"}
    costs = {"decode/tokens_per_s": "{:.0f} tokens/s", "train/ms_per_batch": "{:.0f} ms/batch"}
    parts = [text.format(record.metrics[k]) for k, text in shown.items() if k in record.metrics]
    parts += [text.format(record.cost[k]) for k, text in costs.items() if record.cost.get(k)]
    return ", ".join(parts)


def _show_samples(folder: Path, count: int) -> None:
    """Prints the first samples of a job, when its evaluation wrote some."""
    path = folder / SAMPLES
    if count and path.is_file():
        samples = path.read_text(encoding="utf-8").split(SAMPLE_MARK)[1 : count + 1]
        print("\n".join((SAMPLE_MARK + sample).rstrip() for sample in samples))


def _conclude(plan: Plan) -> int:
    """Prints the table and where it lies; 1 when some jobs failed."""
    from micro_transformer.report import __main__ as report  # pandas: half a second

    print()
    report.main([str(plan.folder)])
    statuses = {record.status for record in results.load_records(plan.folder).records}
    return int(bool(statuses - {results.OK, results.INVALID}))
