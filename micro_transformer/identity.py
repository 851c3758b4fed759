"""The fingerprints of a job: what its training and what its run depend on. Knows no torch."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from micro_transformer import schema
from micro_transformer.components import find
from micro_transformer.data.corpora.catalog import corpus
from micro_transformer.data.prepared import open_prepared
from micro_transformer.fingerprint import code_digests, digest

ROOT = "micro_transformer"
TRAINING_CODE = (f"{ROOT}.training", f"{ROOT}.build")
TRAINED = ("arch", "posenc", "pattern", "ffn", "task")
MEASURED = ("scaling", "attention", "cache", "decoding")
DRAWN = "drawn"  # the data of a task that draws its own


@dataclass(frozen=True)
class Fingerprints:
    """Hashes of a job, and the parts they are made of, so that a difference can be named."""

    run: str
    train: str
    code: dict[str, str]  # module -> digest
    data: str
    factors: dict[str, Any]


def fingerprints(config: dict[str, Any], data_digest: str) -> Fingerprints:
    """Identity of a resolved configuration with the code and data it would use now."""
    trained_by = code_digests(
        [*TRAINING_CODE, *_modules(config, TRAINED), _kernel(config["train"]), *_start(config)]
    )
    measured_by = code_digests([*_modules(config, MEASURED), *_measures(config)])
    factors = {
        "config": {key: config[key] for key in schema.TRAIN_FACTORS},
        "code": trained_by,
        "data": data_digest,
    }
    code = {**trained_by, **measured_by}
    whole = {k: v for k, v in config.items() if k not in schema.WITHOUT_IDENTITY}
    return Fingerprints(
        run=digest({"config": whole, "code": code, "data": data_digest}),
        train=digest(factors),
        code=code,
        data=data_digest,
        factors=factors,
    )


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


def _modules(config: dict[str, Any], groups: Iterable[str]) -> list[str]:
    return [schema.component(group, config).module for group in groups]


def _kernel(recipe: dict[str, Any]) -> str:
    return find("attention", schema.read_choice("attention", recipe["kernel"])["kind"]).module


def _start(config: dict[str, Any]) -> list[str]:
    """What only the base's training and the stretching of its net run."""
    start = config["origin"]
    if start is None:
        return []
    return [_kernel(start["train"]), find("scaling", start["scaling"]["kind"]).module]


def _measures(config: dict[str, Any]) -> list[str]:
    return [
        find(group, entry["kind"]).module
        for group in schema.LISTS
        for entry in config[group]["measures"].values()
    ]
