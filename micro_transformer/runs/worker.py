"""The work done in a job's child processes: training a model, and measuring a trained one."""

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from micro_transformer.build import measuring, training
from micro_transformer.evals import probes
from micro_transformer.evals.base import EvalContext
from micro_transformer.nn.arch.base import Net
from micro_transformer.nn.kernels.base import Kernel
from micro_transformer.progress import Display, shown
from micro_transformer.runs import trained_net
from micro_transformer.runs.work import Measured, Work
from micro_transformer.seeds import make_deterministic, seed_everything, stream
from micro_transformer.stop import StopRequest
from micro_transformer.store.checkpoints import Entry
from micro_transformer.training.ranks import joined
from micro_transformer.training.trainer import Trainer
from micro_transformer.wording import _

log = logging.getLogger(__name__)
Config = dict[str, Any]
TITLE = ("posenc", "attention", "cache", "decoding")
TRACED = 8  # validation tokens in a trace


def train(config: Config, entry: Entry, factors: dict[str, Any], base: Entry | None) -> Work:
    """The finished training is in the store entry; waits if another process is training it.

    base: the finished training whose weights initialize this one; None: random initialization.
    Its seconds are 0 if another process trained it.
    """
    stop = StopRequest().install()
    make_deterministic(config["train"]["threads"])
    seed_everything(stream(config["seed"], "everything else"))

    def check_stop() -> None:
        """Raises Interrupted on all ranks after the same step if any rank received a signal."""
        if (number := ranks.largest(stop.number or 0)) and stop.number is None:
            stop.note(number)
        stop.check()

    with (
        joined(config["device"], entry.fingerprint) as ranks,
        _sole_trainer(entry, stop, ranks.is_first),
    ):
        if ranks.from_first(entry.is_complete()):
            return Work()
        if ranks.is_first:
            entry.open(factors)
        task = training.build_task(config)
        begun = trained_net.start(config, task, base)
        trainer = Trainer(
            begun.net,
            task,
            training.recipe(config),
            seed=config["seed"],
            device=config["device"],
            entry=entry,
            check_stop=check_stop,
            ranks=ranks,
        )
        trainer.progress.cost, trainer.progress.base = dict(begun.cost), begun.base
        check_stop()
        started = time.monotonic()
        trainer.run()
        return Work(time.monotonic() - started)


def measure(config: Config, entry: Entry, folder: Path, groups: Sequence[str]) -> Measured:
    """Metrics, costs and sizes of the trained model. groups: "eval" (metrics), "bench" (costs), or
    both. Text samples are written to `folder`."""
    make_deterministic(config["bench"]["threads"])
    seed_everything(stream(config["seed"], "measure"))
    task = training.build_task(config)
    begun, state = trained_net.load(config, entry, task)
    model = begun.net
    if config["run"]["trace"]:
        print(probes.trace(model, torch.tensor([task.tokens("val")[:TRACED].tolist()])))
    subject = EvalContext(
        model=model,
        task=task,
        recipe=training.recipe(config),
        title=" + ".join(config[group]["kind"] for group in TITLE),
        strategy=measuring.build_strategy(config, task.vocab_size),
        make_cache=measuring.cache_maker(config),
        new_model=lambda: training.adapted(training.build_model(config, task), config, begun.fresh),
        folder=folder,
        device=config["device"],
        seed=config["seed"],
    )
    found: dict[str, dict[str, Any]] = {"eval": {}, "bench": {}}
    started = time.monotonic()
    measures = [(g, *each) for g in groups for each in measuring.build_measures(g, config).items()]
    with shown(Display("measure", len(measures))) as display:
        for group, name, measure in measures:
            display.begin(name)
            found[group].update(measure.run(subject))
            display.advance()
    seconds = time.monotonic() - started
    progress = state["progress"]
    return Measured(
        seconds=seconds,
        metrics=found["eval"],
        cost={**progress["cost"], **found["bench"]},
        size=sizes(model),
        data=task.data_record,
        quality=task.quality._asdict(),
        dtype=str(next(model.parameters()).dtype).removeprefix("torch."),
        attention=sorted(
            {name for m in model.modules() if isinstance(m, Kernel) for name in m.ran}
        ),
        history=progress["history"],
    )


def sizes(model: Net) -> dict[str, float]:
    """Parameter counts (total, trainable with their share, active per token) and forward FLOPs per
    token."""
    parameters = list(model.parameters())
    params, trainable = (
        sum(p.numel() for p in found)
        for found in (parameters, [p for p in parameters if p.requires_grad])
    )
    return {
        "params": params,
        "trainable": trainable,
        "trainable_share": trainable / params,
        "active_params": model.active_params(),
        "flops_per_token": model.flops_per_token(),
    }


@contextmanager
def _sole_trainer(entry: Entry, stop: StopRequest, is_first: bool) -> Iterator[None]:
    """Context manager that locks the entry for training, waiting while another process has it. Only
    the first rank takes the lock; the system releases it if the process dies."""
    if not is_first:
        yield
        return
    entry.folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(entry.lock)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.warning(_("%s is being trained by another process; waiting for it"), entry.fingerprint)
        while True:
            stop.check()
            with suppress(Timeout):
                lock.acquire(timeout=1)
                break
    try:
        yield
    finally:
        lock.release()
