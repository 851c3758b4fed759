"""A tiny net on our own stories, trained as a job would."""

import dataclasses

from micro_transformer.build import training
from micro_transformer.store.checkpoints import read_snapshot
from micro_transformer.training.trainer import Trainer

STORIES = ["task=micro", "task.stories=300"]
WORDS = ["model=tiny", "train=smoke", "model.d_model=32", "train.threads=1"]


class Stop(BaseException):
    """Stands for a kill."""


def train(config, entry, stop_after=None):
    seen = 0

    def check_stop():
        nonlocal seen
        seen += 1
        if seen == stop_after:
            raise Stop

    return make_trainer(config, entry, check_stop=check_stop).run()


def make_trainer(config, entry, **recipe_or_stop):
    """The trainer of a configuration; keywords override recipe knobs unchecked, as fp16 on CPU."""
    task, check_stop = training.build_task(config), recipe_or_stop.pop("check_stop", lambda: None)
    return Trainer(
        training.build_model(config, task),
        task,
        dataclasses.replace(training.recipe(config), **recipe_or_stop),
        seed=config["seed"],
        device="cpu",
        entry=entry,
        check_stop=check_stop,
    )


def curve(progress):
    timeless = ("seconds",)
    return [{k: v for k, v in line.items() if k not in timeless} for line in progress.history]


def weights(entry):
    return read_snapshot(entry.final)["weights.safetensors"]
