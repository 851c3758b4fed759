"""Stands for the worker of jobs: it stores something, and asks its command to stop when told."""

import json
import os
import time

from micro_transformer.runs.work import Measured, Work
from micro_transformer.stop import StopRequest

PATIENCE_S = 10.0


def ask_for(store, phase, number):
    """In this phase the process that calls this is signalled, once."""
    store.mkdir(exist_ok=True)
    (store / "ask").write_text(json.dumps([phase, int(number), os.getpid()]))


def ask_in(store, phase):
    """Whether the command was asked to stop, since it is in that phase."""
    try:
        wanted, number, command = json.loads((store / "ask").read_text())
        if wanted != phase:
            return False
        (store / "ask").unlink()  # by one of two jobs
    except OSError:
        return False
    os.kill(command, number)
    return True


def heard(stop):
    """The stop has arrived."""
    end = time.monotonic() + PATIENCE_S
    while stop.number is None:
        assert time.monotonic() < end
        time.sleep(0.01)


def train(config, entry, factors, base):
    """The entry is stored; a stop is looked for before that alone, as after a last step."""
    store = entry.folder.parent
    if ask_in(store, "a child starts"):
        time.sleep(PATIENCE_S)
    stop = StopRequest().install()
    if ask_in(store, "steps"):
        heard(stop)
    stop.check()
    if ask_in(store, "storing"):
        heard(stop)
    entry.open(factors)
    entry.finish({"weights.safetensors": b"bits"})
    with open(store / "trained", "a") as file:
        file.write(f"{entry.fingerprint}\n")
    ask_in(store, "stored")
    return Work(1.0)


def measure(config, entry, folder, groups):
    """A figure."""
    store = entry.folder.parent
    # a signal that a concurrent job asked for arrives within a tenth of a second
    time.sleep(PATIENCE_S if ask_in(store, "measuring") else 0.1)
    ask_in(store, "measured")
    return Measured(1.0, metrics={"val/loss": 1.0})
