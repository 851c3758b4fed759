"""Fingerprints of a job: hashes of all that its training and its run depend on. Needs no torch."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from micro_transformer.config import schema
from micro_transformer.config.choices import read_choice
from micro_transformer.config.components import find
from micro_transformer.config.groups import COMPONENTS, GROUPS, LISTS, TRAIN_FACTORS, is_neutral
from micro_transformer.config.neutral import without_neutral
from micro_transformer.hashing import digest
from micro_transformer.store.code_digest import code_digests

ROOT = "micro_transformer"
TRAINING_CODE = (f"{ROOT}.training.trainer", f"{ROOT}.build.training")
TRAINED = [group for group in COMPONENTS if GROUPS[group].trained]
MEASURED = [group for group in COMPONENTS if not GROUPS[group].trained]


@dataclass(frozen=True)
class Fingerprints:
    """Hashes of a job and the parts hashed, so that a difference between jobs can be named."""

    run: str
    train: str
    code: dict[str, str]  # module -> digest
    data: str
    factors: dict[str, Any]


def fingerprints(config: dict[str, Any], data_digest: str) -> Fingerprints:
    """Fingerprints of a resolved configuration with the current code and data, without groups and
    knobs that do nothing."""
    trained_by = code_digests(
        [*TRAINING_CODE, *_modules(config, TRAINED), _kernel(config["train"]), *_start(config)]
    )
    measured_by = code_digests([*_modules(config, MEASURED), *_measures(config)])
    factors = {
        "config": without_neutral({key: config[key] for key in TRAIN_FACTORS}),
        "code": trained_by,
        "data": data_digest,
    }
    code = {**trained_by, **measured_by}
    whole = {k: v for k, v in config.items() if k not in schema.WITHOUT_IDENTITY}
    return Fingerprints(
        run=digest({"config": without_neutral(whole), "code": code, "data": data_digest}),
        train=digest(factors),
        code=code,
        data=data_digest,
        factors=factors,
    )


def _modules(config: dict[str, Any], groups: Iterable[str]) -> list[str]:
    used = [group for group in groups if not is_neutral(group, config[group])]
    return [schema.component(group, config).module for group in used]


def _kernel(recipe: dict[str, Any]) -> str:
    return find("attention", read_choice("attention", recipe["kernel"])["kind"]).module


def _start(config: dict[str, Any]) -> list[str]:
    """Modules used only to train the base and to apply RoPE scaling to it."""
    start = config["origin"]
    if start is None:
        return []
    return [*_modules(start, ["scaling", *TRAINED]), _kernel(start["train"]), *_start(start)]


def _measures(config: dict[str, Any]) -> list[str]:
    return [
        find(group, entry["kind"]).module
        for group in LISTS
        for entry in config[group]["measures"].values()
    ]
