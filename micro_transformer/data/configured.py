"""Digest and lengths of the prepared data that a configuration selects."""

from typing import Any

from micro_transformer.config import schema
from micro_transformer.config.base import start_of
from micro_transformer.data.corpora.catalog import corpus
from micro_transformer.data.prepared_dataset import Prepared, open_prepared
from micro_transformer.wording import _

DRAWN = "drawn"  # digest of the data of a task that generates them


def data_digest(config: dict[str, Any]) -> str:
    """Digest of the task's prepared data; DRAWN if the task generates its data, which then
    depend only on its knobs and code. After it, separated by spaces, the digests of the data of
    its bases where they are of another task. DataMissing names the command that prepares them."""
    start = start_of(config)
    if start is not None and start["task"] == config["task"]:
        return data_digest(start)  # the same, its bases' included
    data = _prepared(config)
    own = DRAWN if data is None else data.digest
    return own if start is None else f"{own} {data_digest(start)}"


def other_tokenizer(config: dict[str, Any]) -> list[str]:
    """One line if the base reads another tokenizer's ids; none if it does not, or has no base."""
    start = start_of(config)
    if start is None:
        return []
    own, its = _prepared(config), _prepared(start)
    if own is None or its is None or own.tokenizer_digest == its.tokenizer_digest:
        return other_tokenizer(start)
    return [
        _(
            "base: {base} and {own} have different tokenizers, so ids do not mean the same; "
            "prepare both from one source, or use a task.tokenizer that is the same, such as byte",
            base=its.folder.name,
            own=own.folder.name,
        )
    ]


def split_lengths(config: dict[str, Any]) -> dict[str, int]:
    """Maps split -> number of tokens of the task's prepared text; empty if the task generates
    its data."""
    data = _prepared(config)
    if data is None:
        return {}
    splits = data.splits
    return {split: sum(c["tokens"] for c in of["columns"].values()) for split, of in splits.items()}


def _prepared(config: dict[str, Any]) -> Prepared | None:
    """The task's prepared data; None if the task generates its data."""
    name = schema.component("task", config).facts["corpus"]
    if name is None:
        return None
    wanted = corpus(name, config["task"])
    return open_prepared(config["data"]["dir"], wanted.name, wanted.knobs)
