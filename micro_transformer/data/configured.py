"""The prepared data that a configuration names: their identity and lengths."""

from typing import Any

from micro_transformer.config import schema
from micro_transformer.data.corpora.catalog import corpus
from micro_transformer.data.prepared import open_prepared

DRAWN = "drawn"  # the data of a task that draws its own


def data_digest(config: dict[str, Any]) -> str:
    """Identity of the task's prepared data; DataMissing names the command that makes them.

    A task that draws its own has no other identity than its knobs and code.
    """
    name = schema.component("task", config).facts["corpus"]
    if name is None:
        return DRAWN
    wanted = corpus(name, config["task"])
    return open_prepared(config["data"]["dir"], wanted.name, wanted.knobs).digest


def split_lengths(config: dict[str, Any]) -> dict[str, int]:
    """Split -> tokens of the task's prepared text; empty for a task that draws its own."""
    name = schema.component("task", config).facts["corpus"]
    if name is None:
        return {}
    wanted = corpus(name, config["task"])
    splits = open_prepared(config["data"]["dir"], wanted.name, wanted.knobs).splits
    return {split: sum(c["tokens"] for c in of["columns"].values()) for split, of in splits.items()}
