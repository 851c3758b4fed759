"""The phases of a job: training and measurement, each in its own process."""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from micro_transformer.records.run_record import OK
from micro_transformer.runs import supervise
from micro_transformer.runs.concurrent_jobs import Presence
from micro_transformer.runs.endings import LOG
from micro_transformer.runs.planning import Job
from micro_transformer.store.checkpoints import Damaged
from micro_transformer.store.trainings import Training
from micro_transformer.training.ranks import need


@dataclass
class Phases:
    """Phases run for a job: the last outcome, and per phase wall seconds and concurrent jobs.

    Keys of `seconds`: `train`, `base` and `measure` time the whole process, imports included;
    `train/work`, `base/work` and `measure/work` only the training loop or the measurements in it.
    """

    job: Job
    outcome: supervise.Outcome = supervise.Outcome(OK)
    seconds: dict[str, float] = field(default_factory=dict)
    beside: dict[str, int] = field(default_factory=dict)

    def measure(self, training: Training, groups: Sequence[str]) -> None:
        """The model has been measured, after training if it was not stored. A stored training that
        proves damaged or of another architecture is set aside and trained again, once."""
        with training.entry.held():
            for _ in range(2):
                if not self._train(training):
                    return
                args = training.config, training.entry, self.job.folder, groups
                self._run("measure", *args)
                if not self._met_damage():
                    return
                training.set_aside(str(self.outcome.error))

    def _train(self, training: Training, name: str = "train") -> bool:
        """Trains the model unless it is stored, its base first; returns whether it is stored now.
        name: the phase to record it as."""
        base = training.base
        if training.is_stored():
            return True
        with ExitStack() as held:
            for _ in range(2):
                if base is not None:
                    held.enter_context(base.entry.held())
                    if not self._train(base, "base"):
                        return False
                need(training.config["ranks"])
                self._run("train", *training.work, name=name)
                if base is None or not self._met_damage():
                    break
                base.set_aside(str(self.outcome.error))
        if self.outcome.status != OK:
            return False
        training.entry.note({"seconds": self.seconds[name], "beside": self.beside[name]})
        return True

    def _run(self, work: str, config: dict[str, Any], *args: Any, name: str = "") -> None:
        """The worker function `work` has run in a child process; its outcome, seconds and number of
        concurrent jobs are recorded under `name`, default `work`."""
        name = name or work
        clock, log_file = time.monotonic(), self.job.folder / LOG
        with Presence() as presence:
            self.outcome = supervise.run(
                f"micro_transformer.runs.worker:{work}",
                config,
                *args,
                log=log_file,
                timeout_s=config["run"]["timeout_s"],
                output=log_file if self.job.in_sweep else None,
            )
        self.seconds[name], self.beside[name] = time.monotonic() - clock, presence.beside
        if self.outcome.status == OK:
            self.seconds[f"{name}/work"] = self.outcome.value["seconds"]

    def _met_damage(self) -> bool:
        return self.outcome.flags == Damaged.flags
