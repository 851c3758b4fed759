"""The phases of a job: training and measurement, each in its own process."""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from micro_transformer.records.run_record import OK
from micro_transformer.runs import supervise
from micro_transformer.runs.concurrent_jobs import Presence
from micro_transformer.runs.endings import LOG
from micro_transformer.runs.planning import Job
from micro_transformer.runs.supervise import Outcome
from micro_transformer.store.checkpoints import Damaged
from micro_transformer.store.trainings import Training
from micro_transformer.training.ranks import need

CHECK, BASE, TRAIN, MEASURE = "check", "base", "train", "measure"


@dataclass(frozen=True)
class Phase:
    """A phase of a job, as it ended.

    seconds: wall time of its process, imports included; None for a phase without one. concurrent:
    number of other jobs on this machine meanwhile.
    """

    name: str
    outcome: Outcome
    seconds: float | None = None
    concurrent: int = 0

    @property
    def is_ok(self) -> bool:
        """It did its work."""
        return self.outcome.status == OK

    @property
    def met_damage(self) -> bool:
        """It failed on a stored training that is damaged or of another architecture."""
        return self.outcome.flags == Damaged.flags


def train_and_measure(job: Job, training: Training, groups: Sequence[str]) -> list[Phase]:
    """The phases that measured the model, after training it if it was not stored; the last one may
    have failed. A stored training that proves damaged is set aside and trained again, once."""
    phases: list[Phase] = []
    with ExitStack() as held:
        for needed in filter(None, (training, training.completes)):
            held.enter_context(needed.entry.held())
        for _ in range(2):
            trained = _train(job, training, TRAIN)
            phases += trained
            if trained and not trained[-1].is_ok:
                break
            args = training.config, training.entry, job.folder, groups
            phases.append(_run(MEASURE, "measure", job, *args))
            if not phases[-1].met_damage:
                break
            training.set_aside(str(phases[-1].outcome.error))
    return phases


def _train(job: Job, training: Training, name: str) -> list[Phase]:
    """The phases that trained the model, its base first; none if it is stored, with the base that
    an adapter needs."""
    if training.is_stored():
        return [] if training.completes is None else _train(job, training.completes, BASE)
    phases: list[Phase] = []
    base = training.base
    with ExitStack() as held:
        for _ in range(2):
            if base is not None:
                held.enter_context(base.entry.held())
                based = _train(job, base, BASE)
                phases += based
                if based and not based[-1].is_ok:
                    return phases
            need(training.config["ranks"])
            phases.append(_run(name, "train", job, *training.work))
            if base is None or not phases[-1].met_damage:
                break
            base.set_aside(str(phases[-1].outcome.error))
    last = phases[-1]
    if last.is_ok:
        training.entry.note({"seconds": last.seconds, "beside": last.concurrent})
    return phases


def _run(name: str, work: str, job: Job, config: dict[str, Any], *args: Any) -> Phase:
    """The phase in which the worker function `work` ran in a child process."""
    clock, log_file = time.monotonic(), job.folder / LOG
    with Presence() as presence:
        outcome = supervise.run(
            f"micro_transformer.runs.worker:{work}",
            config,
            *args,
            log=log_file,
            timeout_s=config["run"]["timeout_s"],
            output=log_file if job.in_sweep else None,
        )
    return Phase(name, outcome, time.monotonic() - clock, presence.beside)


def seconds(phases: Sequence[Phase]) -> dict[str, float | None]:
    """Wall seconds by phase: `train`, `base`, `measure` of the whole process; `train/work` and so
    on of the training loop or the measurements in it."""
    found: dict[str, float | None] = {}
    for phase in phases:
        if phase.seconds is not None:
            found[phase.name] = phase.seconds
        if phase.is_ok:
            found[f"{phase.name}/work"] = phase.outcome.value.seconds
    return found


def concurrent(phases: Sequence[Phase], name: str) -> int | None:
    """Number of concurrent jobs in the last phase of this name; None if there was none."""
    return next((phase.concurrent for phase in reversed(phases) if phase.name == name), None)
