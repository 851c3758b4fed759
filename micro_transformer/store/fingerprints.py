"""Fingerprints of a job: hashes of all that its training and its run depend on. Needs no torch."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from micro_transformer.config import schema
from micro_transformer.config.components import GROUPS, find
from micro_transformer.hashing import digest
from micro_transformer.store.code_digest import code_digests

ROOT = "micro_transformer"
TRAINING_CODE = (f"{ROOT}.training.trainer", f"{ROOT}.build.training")
TRAINED = [group for group in schema.COMPONENTS if GROUPS[group].trained]
MEASURED = [group for group in schema.COMPONENTS if not GROUPS[group].trained]


@dataclass(frozen=True)
class Fingerprints:
    """Hashes of a job and the parts hashed, so that a difference between jobs can be named."""

    run: str
    train: str
    code: dict[str, str]  # module -> digest
    data: str
    factors: dict[str, Any]


def fingerprints(config: dict[str, Any], data_digest: str) -> Fingerprints:
    """Fingerprints of a resolved configuration with the current code and data."""
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


def _modules(config: dict[str, Any], groups: Iterable[str]) -> list[str]:
    return [schema.component(group, config).module for group in groups]


def _kernel(recipe: dict[str, Any]) -> str:
    return find("attention", schema.read_choice("attention", recipe["kernel"])["kind"]).module


def _start(config: dict[str, Any]) -> list[str]:
    """Modules used only to train the base and to apply RoPE scaling to it."""
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
