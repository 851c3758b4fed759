"""Trainings from a base, in this process and by the command."""

import os
import subprocess
import sys

import pytest

from micro_transformer.data.configured import data_digest
from micro_transformer.runs import worker
from micro_transformer.store import trainings
from micro_transformer.store.fingerprints import fingerprints
from tests.runs.extending import ROOT, SHORT, TINY, Stopping, config_of


@pytest.fixture
def train(micro_data, monkeypatch):
    """Trains the overrides' recipe as a job would, stopped at a step of the base or later."""
    monkeypatch.setattr(worker, "make_deterministic", lambda threads: None)

    def run(store, *words, base_stop=None, stop=None):
        config = config_of(*TINY, *SHORT, *words, f"data.dir={micro_data}", f"store.dir={store}")
        training = trainings.of(config, fingerprints(config, data_digest(config)))
        for part, last in ((training.base, base_stop), (training, stop)):
            monkeypatch.setattr(worker, "StopRequest", lambda last=last: Stopping(last))
            worker.train(*part.work)
        return training

    return run


@pytest.fixture
def lab(tmp_path, micro_data):
    def run(*words, module="run.py"):
        start = [str(ROOT / "run.py"), *TINY, f"data.dir={micro_data}", "bench=none"]
        command = [sys.executable, *(start if module == "run.py" else ["-m", module]), *words]
        env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        return subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)

    run.folder = tmp_path
    run.data = str(micro_data)
    return run
