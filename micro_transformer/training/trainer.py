"""The training loop. A killed training resumes from its last snapshot and ends bit-identical."""

import copy
import json
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from micro_transformer import memory
from micro_transformer.config.sections import Train
from micro_transformer.nn.arch.base import Net
from micro_transformer.progress import Display, shown
from micro_transformer.store import contents
from micro_transformer.store.checkpoints import Damaged, Entry
from micro_transformer.tasks.base import Task
from micro_transformer.training.optimizers import Optimizers
from micro_transformer.training.ranks import Ranks
from micro_transformer.training.step import TrainingStep
from micro_transformer.wording import _

log = logging.getLogger(__name__)
OPTIMIZERS, BEST = "optimizer.safetensors", "best.safetensors"


class NonFinite(Exception):
    """The loss or the gradient norm is NaN or infinite."""

    status = "nan"


@dataclass
class Progress:
    """Progress of a training: all of its state except tensors."""

    step: int = 0
    tokens: int = 0  # that the model has read in training, without padding
    best: float | None = None
    best_step: int = 0
    bad_evaluations: int = 0
    stopped_early: bool = False
    train_seconds: float = 0.0
    resumes: int = 0
    base: dict[str, str] | None = None  # what the stored weights complete, see runs/trained_net.py
    cost: dict[str, float | None] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)


class Trainer:
    """Trains a model on a task by a recipe, with snapshots in a store entry.

    The draws of a step (see TrainingStep) do not depend on resumes and evaluations. The first rank
    evaluates and stores.
    """

    def __init__(
        self,
        model: Net,
        task: Task,
        recipe: Train,
        *,
        seed: int,
        device: str,
        entry: Entry,
        check_stop: Callable[[], None] = lambda: None,
        ranks: Ranks = Ranks(),  # noqa: B008 - frozen
    ):
        self.model, self.task, self.recipe = model, task, recipe
        self.device, self.entry, self.check_stop, self.ranks = device, entry, check_stop, ranks
        self.training_step = TrainingStep(
            model, task, recipe, seed=seed, device=device, ranks=ranks
        )
        self.progress = Progress()
        self.best_weights: dict[str, Tensor] = {}

    def run(self) -> Progress:
        """The model has the weights of its best evaluation, and is stored as finished training.
        Raises NonFinite; on a stop request raises Interrupted after storing a snapshot."""
        self._resume()
        progress, recipe = self.progress, self.recipe
        display = Display("step", recipe.steps, progress.step)
        with shown(display, is_quiet=not self.ranks.is_first):
            while progress.step < recipe.steps and not progress.stopped_early:
                started = time.monotonic()
                line = self._step(progress.step)
                progress.train_seconds += time.monotonic() - started
                progress.step += 1
                self._record(line, display)
                said = {k: line[k] for k in ("train/loss", self.task.watch.name) if k in line}
                display.advance(**said)
                stored = progress.step % recipe.checkpoint_every == 0
                if stored and progress.step < recipe.steps:
                    self._store()
                self._stop_if_asked(stored)
        self._take(self.best_weights)
        progress.cost |= self._cost()
        if self.ranks.is_first:
            self.entry.finish({contents.WEIGHTS: self._weights(), contents.STATE: self._state()})
        return progress

    def _step(self, number: int) -> dict[str, Any]:
        """One optimizer step has been made; returns its line of the history. Raises NonFinite."""
        line, tokens = self.training_step(number)
        self.progress.tokens += tokens
        for name, value in line.items():
            if value is not None and not math.isfinite(value):
                raise NonFinite(
                    _("{name} is {value} at step {step}", name=name, value=value, step=number + 1)
                )
        return {"step": number + 1, **line}

    def _record(self, line: dict[str, Any], display: Display) -> None:
        """The step's line is appended to the history, with an evaluation if one is due."""
        progress, recipe = self.progress, self.recipe
        line["epoch"] = round(progress.tokens / self.task.train_tokens, 4)
        line["seconds"] = round(progress.train_seconds, 3)
        if progress.step % recipe.eval_every == 0 or progress.step == recipe.steps:
            display.begin("evaluation")
            self.model.eval()
            scores = self.task.score(self.model, "val") if self.ranks.is_first else {}
            found = {f"val/{name}": value for name, value in scores.items()}
            self._judge(self.ranks.from_first(found.get(self.task.watch.name, math.nan)))
            line |= {k: v if math.isfinite(v) else None for k, v in found.items()}
        progress.history.append(line)

    def _judge(self, value: float) -> None:
        """Best weights and early stopping are updated by an evaluation's `value` of `task.watch`.
        Patience counts evaluations without improvement."""
        progress = self.progress
        if not math.isfinite(value):
            raise NonFinite(
                _(
                    "{watch} is {value} at step {step}",
                    watch=self.task.watch.name,
                    value=value,
                    step=progress.step,
                )
            )
        if progress.best is None or self.task.watch.is_better(value, progress.best):
            progress.best, progress.best_step, progress.bad_evaluations = value, progress.step, 0
            self.best_weights = copy.deepcopy(self._own_weights())
        else:
            progress.bad_evaluations += 1
            patience = self.recipe.patience
            progress.stopped_early = patience is not None and progress.bad_evaluations >= patience

    def _cost(self) -> dict[str, float | None]:
        """Training costs, evaluations excluded from times: seconds, ms per step, tokens per second,
        peak RAM and GPU memory in GB."""
        progress = self.progress
        return {
            "train/seconds": progress.train_seconds,
            "train/ms_per_step": 1e3 * progress.train_seconds / progress.step,
            "train/tokens_per_s": progress.tokens / progress.train_seconds,
            "train/peak_rss_gb": memory.peak_rss_bytes() / memory.GB,
            "train/peak_vram_gb": memory.peak_vram_gb(self.device),
        }

    def _stop_if_asked(self, stored: bool) -> None:
        """On a stop request, a snapshot of this step is stored before Interrupted is raised."""
        try:
            self.check_stop()
        except BaseException:
            if not stored and self.progress.step < self.recipe.steps:
                self._store()
            raise

    def _weights(self) -> bytes:
        return _tensors(self._own_weights())

    def _own_weights(self) -> dict[str, Tensor]:
        """What is stored of the net: all, or what its base does not have."""
        net = self.model
        return net.state_dict() if self.progress.base is None else net.trained_state()

    def _take(self, weights: dict[str, Tensor]) -> None:
        """The net has these of its own weights."""
        self.model.load_state_dict(weights, strict=self.progress.base is None)

    def _state(self) -> bytes:
        scaler = self.training_step.optimizers.scaler.state_dict()
        state = {"progress": vars(self.progress), "scaler": scaler}
        return json.dumps(state, allow_nan=False).encode()

    def _store(self) -> None:
        """A snapshot after the current step is stored, by the first rank."""
        if not self.ranks.is_first:
            return
        files = {
            contents.WEIGHTS: self._weights(),
            OPTIMIZERS: _tensors(self.training_step.optimizers.state()),
            contents.STATE: self._state(),
        }
        if self.best_weights:
            files[BEST] = _tensors(self.best_weights)
        self.entry.write_step(self.progress.step, files)

    def _resume(self) -> None:
        """The newest intact snapshot is loaded, if any; a damaged newer one is logged. ValueError
        if ranks loaded different steps."""
        self._resume_alone()
        if self.ranks.from_first(self.progress.step) != self.progress.step:
            raise ValueError(
                _(
                    "rank {rank} loaded another snapshot than rank 0; store.dir must be a folder "
                    "that all ranks share",
                    rank=self.ranks.rank,
                )
            )

    def _resume_alone(self) -> None:
        for folder in self.entry.steps():
            try:
                self._load(self.entry.read_step(folder))
            except Damaged as damage:
                log.warning(_("%s: %s; resuming from the snapshot before it"), folder, damage)
                continue
            log.info(_("resumed at step %d of %d"), self.progress.step, self.recipe.steps)
            return

    def _load(self, files: dict[str, bytes]) -> None:
        """The snapshot is loaded; raises Damaged, with nothing changed, if it does not fit."""
        state, own = contents.state_of(files), self._own_weights()
        weights = contents.weights_of(files, own)
        best = contents.weights_of(files, own, BEST) if BEST in files else {}
        optimizers = Optimizers(self.model, self.recipe, self.device)
        try:
            progress = Progress(**state["progress"])
            optimizers.load_state(contents.tensors_of(files, OPTIMIZERS))
            optimizers.scaler.load_state_dict(state["scaler"])
            fits = optimizers.fit(progress.step) and bool(best) == (progress.best is not None)
        except (TypeError, ValueError, KeyError, AttributeError, RuntimeError) as error:
            raise Damaged(
                _(
                    "the state is of another net or recipe: {kind}: {error}",
                    kind=type(error).__name__,
                    error=error,
                )
            ) from error
        if not fits or progress.step > self.recipe.steps or progress.base != self.progress.base:
            raise Damaged(_("the state is of another net or recipe"))
        self._take(weights)
        self.progress, self.best_weights = progress, best
        self.training_step.optimizers = optimizers
        self.progress.resumes += 1


def _tensors(tensors: dict[str, Tensor]) -> bytes:
    """The tensors in safetensors format; copied, since it cannot store tied (shared) weights."""
    return safetensors.torch.save(
        {
            name: t.detach().clone(memory_format=torch.contiguous_format)
            for name, t in tensors.items()
        }
    )
