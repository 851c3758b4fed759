"""A fine-tuning small enough for a test: eight steps at 32 tokens, then four at 64."""

import json
from pathlib import Path

from micro_transformer.config.resolve import resolve
from micro_transformer.runs.planning import make_plan
from micro_transformer.store import trainings
from micro_transformer.store.checkpoints import read_snapshot
from micro_transformer.store.fingerprints import fingerprints
from tests.conftest import members

ROOT = Path(__file__).resolve().parents[2]
SCALINGS = members("scaling")
EXTEND = ["base=long", "train=extend"]
# Eight steps at 32 tokens, then four at 64.
SHORT = ["base=long", "base.train=smoke", "train=extend", "train.steps=4", "train.context=64"]
SHORT += ["train.warmup_steps=1", "train.eval_every=4", "train.checkpoint_every=2"]
TINY = ["task=micro", "task.stories=300", "model=tiny", "model.d_model=32", "train.threads=1"]


def config_of(*words):
    (job,) = make_plan(words).jobs
    return resolve(job.config)


def training_of(*words):
    config = config_of(*words)
    return trainings.of(config, fingerprints(config, "0123456789ab"))


class Stop(BaseException):
    """Stands for a kill."""


class Stopping:
    """A request to stop after N steps."""

    number = None

    def __init__(self, last):
        self.last, self.seen = last, 0

    def install(self):
        return self

    def check(self):
        self.seen += 1
        if self.seen == self.last:
            raise Stop


def final(training):
    files = read_snapshot(training.entry.final)
    return files["weights.safetensors"], json.loads(files["state.json"])["progress"]


def curve(progress):
    return [{k: v for k, v in line.items() if k != "seconds"} for line in progress["history"]]
