"""Digest and lengths of the prepared data that a configuration selects."""

from typing import Any

from micro_transformer.config import schema
from micro_transformer.data.corpora.catalog import corpus
from micro_transformer.data.prepared_dataset import open_prepared

DRAWN = "drawn"  # digest of the data of a task that generates them


def data_digest(config: dict[str, Any]) -> str:
    """Digest of the task's prepared data; DRAWN if the task generates its data, which then
    depend only on its knobs and code. DataMissing names the command that prepares them."""
    name = schema.component("task", config).facts["corpus"]
    if name is None:
        return DRAWN
    wanted = corpus(name, config["task"])
    return open_prepared(config["data"]["dir"], wanted.name, wanted.knobs).digest


def split_lengths(config: dict[str, Any]) -> dict[str, int]:
    """Maps split -> number of tokens of the task's prepared text; empty if the task generates
    its data."""
    name = schema.component("task", config).facts["corpus"]
    if name is None:
        return {}
    wanted = corpus(name, config["task"])
    splits = open_prepared(config["data"]["dir"], wanted.name, wanted.knobs).splits
    return {split: sum(c["tokens"] for c in of["columns"].values()) for split, of in splits.items()}
