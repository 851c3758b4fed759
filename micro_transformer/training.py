"""The only training loop. A killed run goes on from its last state and ends with the same bits."""

import copy
import json
import logging
import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn
from tqdm import tqdm

from micro_transformer import contents, memory
from micro_transformer.nn.models import DecoderLM, auxiliary_loss
from micro_transformer.optimizers import Optimizers
from micro_transformer.ranks import Ranks
from micro_transformer.repro import stream
from micro_transformer.schema import Train
from micro_transformer.store import Damaged, Entry
from micro_transformer.tasks.base import Task

log = logging.getLogger(__name__)
OPTIMIZERS, BEST = "optimizer.safetensors", "best.safetensors"
AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


class NonFinite(Exception):
    """The loss or the gradient is no number any more."""

    status = "nan"


@dataclass
class Progress:
    """Where a training stands: all of its state that is no tensor."""

    step: int = 0
    best: float = math.inf
    best_step: int = 0
    bad_evaluations: int = 0
    stopped_early: bool = False
    train_seconds: float = 0.0
    resumes: int = 0
    cost: dict[str, float | None] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)


class Trainer:
    """Trains a model on a task by a recipe, storing states in a place of the store.

    Draws are stateless: batch and dropout of step n follow from (seed, n) alone, so that neither a
    resume nor an evaluation on the way can change them. Ranks that train together take their rows
    of one batch and make one step; the first one evaluates and stores.
    """

    def __init__(
        self,
        model: DecoderLM,
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
        self.seed, self.device, self.entry, self.check_stop = seed, device, entry, check_stop
        self.ranks = ranks
        self.optimizers = Optimizers(model, recipe)
        self.scaler = torch.amp.GradScaler(device, enabled=recipe.precision == "fp16")
        self.progress = Progress()
        self.best_weights: dict[str, Tensor] = {}
        self.forward: Any = torch.compile(model) if recipe.compile else model

    def run(self) -> Progress:
        """The model holds the weights of the best evaluation; its state is stored as final."""
        self._resume()
        progress, recipe = self.progress, self.recipe
        quiet = None if self.ranks.is_first else True
        with tqdm(total=recipe.steps, initial=progress.step, unit="step", disable=quiet) as bar:
            while progress.step < recipe.steps and not progress.stopped_early:
                started = time.monotonic()
                line = self._step(progress.step)
                progress.train_seconds += time.monotonic() - started
                progress.step += 1
                self._record(line, bar)
                stored = progress.step % recipe.checkpoint_every == 0
                if stored and progress.step < recipe.steps:
                    self._store()
                self._stop_in_good_order(stored)
        self.model.load_state_dict(self.best_weights)
        progress.cost |= self._cost()
        if self.ranks.is_first:
            self.entry.finish({contents.WEIGHTS: self._weights(), contents.STATE: self._state()})
        return progress

    def _step(self, step: int) -> dict[str, Any]:
        """One optimizer step; returns its line of the history."""
        rate = self.optimizers.set_rate(step)
        torch.manual_seed(stream(self.seed, "dropout", step, *self.ranks.name))
        self.model.train()
        total = torch.zeros((), device=self.device)
        for part in range(self.recipe.accumulate):
            whole = self.task.train_batch(
                seed=stream(self.seed, "data"),
                step=step * self.recipe.accumulate + part,
                batch_size=self.recipe.batch_size,
                context=self.recipe.context,
                device=self.device,
            )
            batch, weight = self._share(whole)
            with self._precision():
                loss = self.task.loss(self.forward, batch, self.recipe.label_smoothing)
                loss = loss * weight + auxiliary_loss(self.model)
                loss = loss / self.recipe.accumulate
            self.scaler.scale(loss).backward()
            total += loss.detach()
        self.ranks.average_gradients(self.model)
        norm = self._update()
        mean = self.ranks.mean(total).item()
        if not math.isfinite(mean):
            raise NonFinite(f"train/loss is {mean} at step {step + 1}")
        return {"step": step + 1, "train/loss": mean, "lr": rate, "grad_norm": norm}

    def _share(self, whole: Any) -> tuple[Any, float]:
        """This rank's rows, and the weight with which the ranks' mean is the mean over all rows."""
        batch, scored = self.ranks.share(whole), self.task.num_scored
        alone = self.ranks.size == 1
        return batch, 1.0 if alone else self.ranks.size * scored(batch) / scored(whole)

    def _update(self) -> float | None:
        """The optimizers stepped, gradients are gone; returns their norm when clipping."""
        members, norm = self.optimizers.members.values(), None
        if self.recipe.clip is not None:
            for member in members:
                self.scaler.unscale_(member)
            norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip).item()
        for member in members:
            self.scaler.step(member)
        self.scaler.update()
        self.model.zero_grad(set_to_none=True)
        return norm

    def _precision(self) -> AbstractContextManager[Any]:
        dtype = AUTOCAST.get(self.recipe.precision)
        return nullcontext() if dtype is None else torch.autocast(self.device, dtype=dtype)

    def _record(self, line: dict[str, Any], bar: tqdm) -> None:
        """The history has the step's line, with an evaluation when one is due."""
        progress, recipe = self.progress, self.recipe
        line["epoch"] = round(progress.step * self._tokens_a_step() / self.task.train_tokens, 4)
        line["seconds"] = round(progress.train_seconds, 3)
        if progress.step % recipe.eval_every == 0 or progress.step == recipe.steps:
            self.model.eval()
            if self.ranks.is_first:
                line |= {f"val/{k}": v for k, v in self.task.score(self.model, "val").items()}
            self._judge(self.ranks.from_first(line.get(self.task.watch, math.nan)))
        progress.history.append(line)
        bar.update()
        if progress.step % 10 == 0 or self.task.watch in line:
            bar.set_postfix(
                {k: f"{line[k]:.3f}" for k in ("train/loss", self.task.watch) if k in line}
            )

    def _judge(self, value: float) -> None:
        """Best weights are kept; patience is counted in evaluations."""
        progress = self.progress
        if not math.isfinite(value):
            raise NonFinite(f"{self.task.watch} is {value} at step {progress.step}")
        if value < progress.best:
            progress.best, progress.best_step, progress.bad_evaluations = value, progress.step, 0
            self.best_weights = copy.deepcopy(self.model.state_dict())
        else:
            progress.bad_evaluations += 1
            patience = self.recipe.patience
            progress.stopped_early = patience is not None and progress.bad_evaluations >= patience

    def _cost(self) -> dict[str, float | None]:
        """What the training took, evaluations left out."""
        progress = self.progress
        return {
            "train/seconds": progress.train_seconds,
            "train/ms_per_step": 1e3 * progress.train_seconds / progress.step,
            "train/tokens_per_s": progress.step * self._tokens_a_step() / progress.train_seconds,
            "train/peak_rss_gb": memory.peak_rss_bytes() / memory.GB,
            "train/peak_vram_gb": memory.peak_vram_gb(self.device),
        }

    def _tokens_a_step(self) -> int:
        return self.recipe.batch_size * self.recipe.context * self.recipe.accumulate

    def _stop_in_good_order(self, stored: bool) -> None:
        """On a signal the state of this step is stored before the exception goes up."""
        try:
            self.check_stop()
        except BaseException:
            if not stored and self.progress.step < self.recipe.steps:
                self._store()
            raise

    def _weights(self) -> bytes:
        return safetensors.torch.save(
            {k: v.contiguous() for k, v in self.model.state_dict().items()}
        )

    def _state(self) -> bytes:
        scaler = self.scaler.state_dict()
        return json.dumps({"progress": vars(self.progress), "scaler": scaler}).encode()

    def _store(self) -> None:
        """The state after this step is on disk."""
        if not self.ranks.is_first:
            return
        files = {
            contents.WEIGHTS: self._weights(),
            OPTIMIZERS: _tensors(self.optimizers.state()),
            contents.STATE: self._state(),
        }
        if self.best_weights:
            files[BEST] = _tensors(self.best_weights)
        self.entry.write_step(self.progress.step, files)

    def _resume(self) -> None:
        """Goes on from the newest state that is whole; says so when a newer one was damaged."""
        self._resume_alone()
        if self.ranks.from_first(self.progress.step) != self.progress.step:
            raise ValueError(f"rank {self.ranks.rank} sees other states; share store.dir")

    def _resume_alone(self) -> None:
        for folder in self.entry.steps():
            try:
                self._load(self.entry.read_step(folder))
            except Damaged as damage:
                log.warning("%s: %s; going on from the state before", folder, damage)
                continue
            log.info("resumed at step %d of %d", self.progress.step, self.recipe.steps)
            return

    def _load(self, files: dict[str, bytes]) -> None:
        """The training stands where the files say; Damaged, and as it was, when they do not fit."""
        state, own = contents.state_of(files), self.model.state_dict()
        weights = contents.weights_of(files, own)
        best = contents.weights_of(files, own, BEST) if BEST in files else {}
        optimizers = Optimizers(self.model, self.recipe)
        try:
            progress = Progress(**state["progress"])
            optimizers.load_state(contents.tensors_of(files, OPTIMIZERS))
            self.scaler.load_state_dict(state["scaler"])
            fits = all(
                tensor.shape in ((), parameter.shape)
                for member in optimizers.members.values()
                for parameter, entry in member.state.items()
                for tensor in entry.values()
            )
        except (TypeError, ValueError, KeyError, AttributeError, RuntimeError) as error:
            raise Damaged(f"a state does not fit: {type(error).__name__}: {error}") from error
        if not fits or progress.step > self.recipe.steps:
            raise Damaged("a state does not fit: of another net or recipe")
        self.model.load_state_dict(weights)
        self.progress, self.best_weights, self.optimizers = progress, best, optimizers
        self.progress.resumes += 1


def _tensors(tensors: dict[str, Tensor]) -> bytes:
    """Copies, since tied weights share memory and the format knows no sharing."""
    return safetensors.torch.save({name: t.detach().clone() for name, t in tensors.items()})
