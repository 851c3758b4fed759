"""What does nothing is no part of an identity: groups and knobs at their neutral values.

The neutral content of a group is declared in `groups.py`; the neutral value of a knob is its
default in the constructor of its component or in its dataclass of `sections.py`. A configuration
written before a group or knob existed means the same as one that has it at its neutral value.
"""

from collections.abc import Callable
from typing import Any

from micro_transformer.config.components import catalog
from micro_transformer.config.groups import GROUPS, LISTS, NEUTRAL, NONE, is_neutral
from micro_transformer.config.sections import SECTIONS, defaults

Config = dict[str, Any]
RETIRED = {"train": {"base": None}}  # knobs of earlier versions, at what is neutral now


def without_neutral(config: Config) -> Config:
    """The configuration without groups and knobs at their neutral values: what identifies it."""
    found = {key: part for key, part in config.items() if not is_neutral(key, part)}
    return _each(
        found, lambda key, knobs: _differing(knobs, _defaults(key, knobs)), without_neutral
    )


def with_neutral(config: Config) -> Config:
    """The configuration with each absent group and knob at its neutral value, as this version
    would write it; parts that are malformed or of unknown kinds are left as they are."""
    return _each(
        {**NEUTRAL, **config},
        lambda key, knobs: _defaults(key, knobs) | _differing(knobs, RETIRED.get(key, {})),
        with_neutral,
    )


def all_choices(choices: dict[str, str]) -> dict[str, str]:
    """The choices of a run, with those of groups that did not exist yet."""
    return {name: NONE for name in NEUTRAL if name in GROUPS} | choices


def _each(
    config: Config, knobs_of: Callable[[str, Config], Config], whole: Callable[[Config], Config]
) -> Config:
    """The configuration with `knobs_of` applied to the knobs of each part that does something, and
    `whole` to its origin, a configuration itself."""
    found = dict(config)
    for key, part in config.items():
        if not isinstance(part, dict) or is_neutral(key, part):
            continue
        if key == "origin":
            found[key] = whole(part)
        elif key in LISTS and isinstance(part.get("measures"), dict):
            measures = part["measures"].items()
            told = {n: knobs_of(key, m) if isinstance(m, dict) else m for n, m in measures}
            found[key] = {**part, "measures": told}
        else:
            found[key] = knobs_of(key, part)
    return found


def _differing(knobs: Config, values: Config) -> Config:
    return {k: v for k, v in knobs.items() if k not in values or v != values[k]}


def _defaults(key: str, knobs: Config) -> Config:
    """Neutral values of the knobs that a part has or could have."""
    if key in SECTIONS:
        return defaults(SECTIONS[key])
    kind = knobs.get("kind")
    if key not in GROUPS or not GROUPS[key].home or not isinstance(kind, str):
        return {}
    component = catalog(key).get(kind)
    return component.defaults if component is not None else {}
