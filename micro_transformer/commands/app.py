"""The main command (run.py): plans the jobs, runs them in child processes, prints the report.

This process itself never imports torch.
"""

import errno
import importlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from micro_transformer import console, disk, temporary_files
from micro_transformer.commands import run_help
from micro_transformer.config import compatibility, schema
from micro_transformer.config.choices import told
from micro_transformer.config.overrides import COMPLETING, SHOWING, BadConfig, Words, split
from micro_transformer.config.resolve import resolve
from micro_transformer.data.configured import data_digest
from micro_transformer.data.prepared_dataset import DataDamaged, DataMissing
from micro_transformer.machine import cores
from micro_transformer.progress import is_terminal
from micro_transformer.records import record_files, run_record
from micro_transformer.runs import run_job, supervise, sweep_state
from micro_transformer.runs.forecast import forecast
from micro_transformer.runs.planning import Job, Plan, in_rounds, make_plan
from micro_transformer.stop import COMMAND, Interrupted
from micro_transformer.training.ranks import Ranks
from micro_transformer.wording import _, plural

log = logging.getLogger(__name__)
BAD_CONFIG, BAD_DATA = 2, 3
LINE_S, LOGGED_S, WAKE_S = 1.0, 30.0, 0.1
LINE = "[%(asctime)s][%(name)s][%(levelname)s] - %(message)s"


@disk.one_line
def main() -> int:
    """Exit code: 0 all jobs done, 1 some failed, 2 bad configuration, 3 bad data or I/O error."""
    try:
        words = split(sys.argv[1:])
        if words.has(console.HELP):
            print(run_help.text())
            return 0
        if words.has((*SHOWING, *COMPLETING)):
            return _shown_by_hydra(words)
        plan = make_plan(words)
    except BadConfig as bad:
        for line in bad.lines:
            print(_("error: {fault}", fault=line), file=sys.stderr)
        return BAD_CONFIG
    if plan.jobs[0].config["check"]:
        print(describe(plan))
        return 0
    _need_data(plan)
    if plan.jobs[0].config["run"]["plan"]:
        print(forecast(plan))
        return 0
    if not Ranks.started().is_first:
        return run_job.help_train(plan.jobs[0])
    _need_room(plan)
    sys.argv = [sys.argv[0], *plan.arguments, *words.flags]
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises its errors instead of printing them
    if plan.multirun:
        _run_sweep(plan)
    else:
        supervise.warm_up()
        _load_report()
        _hydra_main()
    return _conclude(plan)


def _shown_by_hydra(words: Words) -> int:
    """Hydra has printed what a flag asks for (help, configuration), and no job has run. Returns the
    exit code; raises BadConfig if Hydra fails."""
    if words.texts:
        make_plan(words)  # raises one-line errors where Hydra would print many lines
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises its errors, which we print in one line
    try:
        _hydra_main()
    except SystemExit as end:
        return BAD_CONFIG if end.code else 0
    except Exception as error:
        raise BadConfig([told(error)]) from error
    return 0


def _run_sweep(plan: Plan) -> None:
    """Every job of the sweep has a record, including jobs run by a concurrent command."""
    _warn_of_crowding(plan)
    plan.folder.mkdir(parents=True, exist_ok=True)
    sweep_state.write_plan(plan.folder, [job.folder for job in plan.jobs])
    with _live_line(plan.folder):
        if all(map(run_job.is_recorded, plan.jobs)):
            names = (job.folder.name for job in plan.jobs)
            print("\n".join(_("{job}: recorded before", job=name) for name in names))
        elif plan.by_launcher:
            _launch()
        else:
            _run_here(in_rounds(plan.jobs), plan.workers or 1)
        settle = run_job.account_for if plan.workers is None else run_job.run_job
        for job in plan.jobs:
            if sweep_state.read_record(job.folder) is None or sweep_state.is_claimed(job.folder):
                settle(job)
        if plan.jobs[0].config["run"]["bench"] == "alone":
            for job in in_rounds(plan.jobs):
                run_job.measure_alone(job)


def _run_here(planned: list[Job], workers: int) -> None:
    """The jobs have run, at most `workers` concurrently, with the configurations from the plan;
    Hydra's launchers would compose each twice more. One thread per worker suffices, since the work
    is done in child processes."""
    from concurrent.futures import ThreadPoolExecutor, wait  # a few ms, for a sweep only

    logging.basicConfig(format=LINE, level=logging.WARNING, stream=sys.stdout)
    # libraries: warnings only
    logging.getLogger("micro_transformer").setLevel(logging.INFO)
    supervise.warm_up()
    _load_report()
    with ThreadPoolExecutor(workers) as pool:
        ends = [pool.submit(_begin, number, job) for number, job in enumerate(planned)]
        while wait(ends, WAKE_S).not_done:
            pass  # a signal that another thread took is handled here, in the main one
    for end in ends:
        end.result()
    COMMAND.check()


def _begin(number: int, job: Job) -> None:
    """The job has run, unless the command was asked to stop before the job began."""
    if COMMAND.number is not None:
        return
    log.info("#%d : %s", number, " ".join(job.overrides))
    for name, content in (("config", job.config), ("overrides", list(job.overrides))):
        with suppress(OSError):  # the job itself reports errors of its folder
            text = OmegaConf.to_yaml(content)
            disk.write_file(job.folder / ".hydra" / f"{name}.yaml", text.encode())
    _end_of(job)


def _launch() -> None:
    """The Hydra launcher has ended; jobs that it lost have no record yet."""
    try:
        _hydra_main()
    except Interrupted:
        raise
    except SystemExit as end:
        log.error(_("the launcher ended with %s"), end.code)
    except Exception as error:  # a worker was killed: the caller records its job
        log.error(_("the launcher ended: %s"), told(error))


def _warn_of_crowding(plan: Plan) -> None:
    """Prints a warning if the concurrent jobs use more threads in total than there are cores."""
    each = max(resolve(job.config)["train"]["threads"] for job in plan.jobs[:1])
    if plan.workers and plan.workers > 1 and plan.workers * each > cores():
        print(
            _(
                "warning: hydra.launcher.n_jobs={jobs} x train.threads={threads} is more than "
                "{cores} cores; crowded jobs can be many times slower: set train.threads={fair}",
                jobs=plan.workers,
                threads=each,
                cores=cores(),
                fair=max(1, cores() // plan.workers),
            ),
            file=sys.stderr,
        )


@contextmanager
def _live_line(folder: Path) -> Iterator[None]:
    """Context manager that shows the sweep's progress: on a terminal a status line, redrawn every
    LINE_S seconds; otherwise a printed line every LOGGED_S seconds."""
    over, on_terminal = threading.Event(), is_terminal(sys.stderr)
    pause, begin, end = (LINE_S, "\r\033[K", "\r") if on_terminal else (LOGGED_S, "", "\n")
    to = sys.stderr if on_terminal else sys.stdout

    def show() -> None:
        while not over.wait(pause):
            with suppress(OSError):
                line = sweep_state.SweepStatus.of(folder).line()
                print(begin + line, end=end, flush=True, file=to)

    thread = threading.Thread(target=show, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def describe(plan: Plan) -> str:
    """The plan as text: each job's folder and overrides, and the first job's configuration."""
    first = plan.jobs[0]
    rows = [plural(len(plan.jobs), "{n} job -> {at}", "{n} jobs -> {at}", at=plan.folder)]
    for job in plan.jobs:
        rule = "; ".join(compatibility.conflicts(job.config))
        fault = "  " + _("invalid: {rule}", rule=rule) if rule else ""
        rows.append(f"  {job.folder.name}  {' '.join(job.overrides)}{fault}")
    title = _("configuration of {job}:", job=first.folder.name)
    rows += ["", title, OmegaConf.to_yaml(first.config)]
    return "\n".join(rows)


def _need_data(plan: Plan) -> None:
    """All jobs have their data; else exits with code 3 and prints the command that prepares them.
    A run never downloads."""
    missing = []
    for job in plan.jobs:
        try:
            data_digest(job.config)
        except (DataMissing, DataDamaged) as error:
            missing.append(str(error))
    for line in dict.fromkeys(missing):
        print(_("error: {fault}", fault=line), file=sys.stderr)
    if missing:
        sys.exit(BAD_DATA)


def _need_room(plan: Plan) -> None:
    """The job and store folders are writable, and temporary files of dead processes are deleted;
    raises CannotWrite."""
    stores = {Path(job.config["store"]["dir"]) for job in plan.jobs}
    known = {job.folder for job in plan.jobs if os.path.lexists(job.folder)}
    for folder in sorted({plan.folder} | stores | known):
        disk.need_writable(folder)
    for folder in sorted(known):
        if (folder / record_files.RECORD).is_dir():
            raise IsADirectoryError(errno.EISDIR, "", str(folder / record_files.RECORD))
    trainings = [entry for store in stores for entry in store.iterdir() if entry.is_dir()]
    steps = [entry / "steps" for entry in trainings]
    temporary_files.remove_dead([plan.folder, plan.folder / "figures", *known, *stores])
    written = [folder / ".hydra" for folder in known]
    temporary_files.remove_dead([*trainings, *steps, *written])


@hydra.main(version_base="1.3", config_path=str(schema.CONF), config_name="config")
def _hydra_main(cfg: DictConfig) -> None:
    """Runs one job under Hydra. In a sweep a failed job is only recorded, so that the others run;
    a single job that fails exits with its code."""
    console.settle()  # entry point of a launcher's worker process
    with suppress(ValueError):  # handlers can be installed only in the main thread of a worker
        COMMAND.install((signal.SIGTERM, signal.SIGINT))
    settings = HydraConfig.get()
    config = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(config, dict)
    choices = {k: str(v) for k, v in settings.runtime.choices.items() if not k.startswith("hydra/")}
    folder, in_sweep = Path(settings.runtime.output_dir), settings.mode == RunMode.MULTIRUN
    _end_of(Job(tuple(settings.overrides.task), choices, config, folder, in_sweep))  # type: ignore[arg-type]


def _end_of(job: Job) -> None:
    """The job has run, or in a sweep is left to the process that already runs it."""
    end = run_job.attempt(job) if job.in_sweep else run_job.run_job(job)
    if isinstance(end, sweep_state.Holder):
        log.info(_("%s: done by %s"), job.folder.name, end)
    elif job.in_sweep:
        log.info("%s", sweep_state.SweepStatus.of(job.folder.parent).line())
    elif end.record.status != run_record.OK:
        raise SystemExit(end.exit_code)


def _load_report() -> ModuleType:
    """The report module, imported early, since pandas and matplotlib take 1.5 s to import."""
    return importlib.import_module("micro_transformer.commands.report")


def _conclude(plan: Plan) -> int:
    """Prints the report and the failed jobs. Returns the exit code: 0 all jobs done, 1 some failed,
    3 some records or the report could not be written."""
    print()
    code = _load_report().main([str(plan.folder)] + ["--no-figures"] * (not plan.multirun))
    ends = [sweep_state.state_of(job.folder) for job in plan.jobs]
    failed = [end for end in ends if end.state != sweep_state.DONE]
    if failed and plan.multirun:
        print(_("{failed} of {ends} jobs failed:", failed=len(failed), ends=len(ends)))
        for end in failed:
            log_file = _("(log: {path})", path=end.folder / run_job.LOG)
            print(f"  {end.folder.name}  {end.state}: {end.note} {log_file}")
    unwritten = any(end.state == sweep_state.WAITING for end in ends)
    return disk.BAD_IO if code == disk.BAD_IO or unwritten else int(bool(failed))
