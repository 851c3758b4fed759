"""Configurations of tiny trainings."""

import pytest

from micro_transformer.config.resolve import resolve
from micro_transformer.runs.planning import make_plan
from tests.training.trained import STORIES, WORDS


@pytest.fixture
def config(micro_data):
    def make(*words):
        task = [] if any(word.startswith("task=") for word in words) else STORIES
        (job,) = make_plan([*task, *WORDS, f"data.dir={micro_data}", *words]).jobs
        return resolve(job.config)

    return make
