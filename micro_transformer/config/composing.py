"""Composes overrides to a configuration with Hydra; each of its errors becomes a one-line
BadConfig."""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from hydra import compose
from omegaconf import DictConfig, OmegaConf

from micro_transformer.config import choices, schema
from micro_transformer.config.choices import REFERENCE, told
from micro_transformer.config.groups import GROUPS, is_neutral
from micro_transformer.config.neutral import without_neutral
from micro_transformer.config.overrides import BadConfig
from micro_transformer.console import near
from micro_transformer.hashing import digest
from micro_transformer.wording import _, clean, translate


@dataclass(frozen=True)
class Composed:
    """Result of composing overrides: the configuration and Hydra's own settings."""

    words: list[str]
    config: dict[str, Any]  # resolved, without the `hydra` section
    choices: dict[str, str]
    launcher: str
    sweeps: bool  # whether hydra.mode is MULTIRUN
    params: list[str]  # the overrides in hydra.sweeper.params, as of a named sweep
    refers: bool  # whether a value interpolates another key
    source: DictConfig

    def setting(self, key: str) -> Any:
        """A value by its dotted key, `hydra.*` included; BadConfig if it cannot be resolved."""
        with _refusing(self.words):
            return OmegaConf.select(self.source, key)


def composed(words: list[str]) -> Composed:
    """The composition of the overrides; raises a one-line BadConfig if Hydra fails."""
    with _refusing(words):
        source = compose("config", overrides=words, return_hydra_config=True)
        mode, params = source.hydra.mode, source.hydra.sweeper.params or {}
        chosen = {k: str(v) for k, v in source.hydra.runtime.choices.items()}
        own = _own(source)
        return Composed(
            words=words,
            config=OmegaConf.to_container(own, resolve=True),  # type: ignore[arg-type]
            choices={k: v for k, v in chosen.items() if not k.startswith("hydra/")},
            launcher=chosen["hydra/launcher"],
            sweeps=getattr(mode, "name", mode) == "MULTIRUN",
            params=[f"{key}={value}" for key, value in params.items()],
            refers=bool(REFERENCE.search(str(OmegaConf.to_container(own)))),
            source=source,
        )


@contextmanager
def _refusing(words: list[str]) -> Iterator[None]:
    """Context manager that turns errors of Hydra, OmegaConf and yaml into a one-line BadConfig."""
    try:
        yield
    except Exception as error:
        raise BadConfig([_complaint(error, words)]) from error


def _own(config: DictConfig) -> DictConfig:
    """A composed configuration without its `hydra` section."""
    return OmegaConf.create({k: v for k, v in config.items_ex(resolve=False) if k != "hydra"})


def identity(config: dict[str, Any]) -> str:
    """Hash of all that affects results: without the sections for paths and execution, and without
    groups and knobs that do nothing."""
    ignored = (*schema.WITHOUT_IDENTITY, "hydra")
    whole = {key: value for key, value in config.items() if key not in ignored}
    return digest(without_neutral(whole))


def folder_name(chosen: dict[str, str], config: dict[str, Any]) -> str:
    """Folder name of a job: main choices, seed, and a hash of all choices and values but those that
    do nothing."""
    kept = (k for k in chosen if not (k.startswith("hydra/") or is_neutral(k, config.get(k))))
    own = {k: chosen[k] for k in kept}
    words = [own[g] for g, group in GROUPS.items() if group.named and g in own]
    return short_name(words, f"s{config['seed']}-{digest([own, identity(config)])[:8]}")


def short_name(words: Iterable[str], end: str) -> str:
    """The words and the end, joined by hyphens; the words are truncated to keep the name within
    LONGEST_NAME bytes."""
    room = schema.LONGEST_NAME - len(end.encode()) - 1
    kept = "-".join(words).encode()[: max(0, room)].decode(errors="ignore")
    return f"{kept}-{end}" if kept else end


def job_name(_root_: DictConfig) -> str:
    """Folder name of a job, from its composed configuration; an OmegaConf resolver."""
    chosen = {k: str(v) for k, v in _root_.hydra.runtime.choices.items()}
    config = OmegaConf.to_container(_own(_root_), resolve=True)
    return folder_name(chosen, config)  # type: ignore[arg-type]


OmegaConf.register_new_resolver("job_name", job_name, replace=True)


def _complaint(error: Exception, words: list[str]) -> str:
    """Hydra's error in one line; for an unknown key, with the nearest known key."""
    match = re.search(r"Could not override '([^']+)'", str(error))
    return no_key(match[1], words) if match else clean(told(error), 300)


def no_key(key: str, words: list[str]) -> str:
    """Error text for an unknown key, with the nearest known key."""
    if key in schema.MOVED:
        return f"{key}: {translate(schema.MOVED[key])}"
    chosen = [word for word in words if word.split("=")[0] in choices.groups()]
    known = _keys(compose("config", overrides=chosen))
    return _("{key}: no such key{near}", key=clean(key), near=near(key, known))


def _keys(node: Any, prefix: str = "") -> list[str]:
    keys = choices.groups() if not prefix else []
    for key, value in node.items():
        keys.append(f"{prefix}{key}")
        if isinstance(value, DictConfig):
            keys += _keys(value, f"{prefix}{key}.")
    return keys
