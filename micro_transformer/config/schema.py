"""Checks types and ranges of a configuration. Needs no torch.

`faults` returns each error as one line: key=value, the rule, the cure. Knobs of components are
checked against their constructors (`components.py`), the rest against the dataclasses here.
"""

import os
import re
import typing
from collections.abc import Iterable, Iterator
from typing import Any, Literal

from micro_transformer.config.choices import CONF as CONF
from micro_transformer.config.choices import choices_of, read_choice
from micro_transformer.config.choices import groups as groups
from micro_transformer.config.components import GROUPS, Component, complaint, find
from micro_transformer.config.knobs import Count, Few, Size
from micro_transformer.config.sections import Budget, Data, Model, Run, Store
from micro_transformer.config.sections import Train as Train
from micro_transformer.wording import _

SECTIONS = {
    "model": Model, "train": Train, "budget": Budget, "run": Run, "store": Store, "data": Data,
}  # fmt: skip
COMPONENTS = tuple(name for name, g in GROUPS.items() if g.home and not g.is_list)
LISTS = tuple(name for name, g in GROUPS.items() if g.is_list)
SCALARS: dict[str, Any] = {
    "seed": Size,
    "ranks": Count,
    "device": Literal["auto", "cpu", "cuda"],
    "check": bool,
}
# Groups that trained weights depend on; other groups only affect measurements.
TRAINED_GROUPS = tuple(name for name, g in GROUPS.items() if g.trained)
TRAIN_FACTORS = (*TRAINED_GROUPS, "origin", "seed", "device", "ranks")
# Knobs of a recipe that name a file of conf/<group>.
NAMES = {"base": "train", "scaling": "scaling", "kernel": "attention"}
# Knobs of recipes, added after users wrote recipes of their own: absent means `auto`.
ADDED_AUTOS = ("matrix_dtype",)
NO_SCALING = "NoScaling"
LONGEST_NAME, LONGEST_PART = 120, 255  # bytes: names of the lab's folders, any path component
WITHOUT_IDENTITY = ("run", "store", "data", "check")


def faults(config: dict[str, Any], parts: Iterable[str] = ()) -> list[str]:
    """All invalid keys and values, one line each. parts: top-level keys to check; default: all."""
    names = parts or dict.fromkeys((*SCALARS, *SECTIONS, *COMPONENTS, *LISTS, *config))
    return [line for name in names for line in _part(name, config.get(name), config)]


def _part(name: str, value: Any, config: dict[str, Any]) -> Iterator[str]:
    yield from _targets(value, name)
    if name in SCALARS:
        yield from _value(name, value, SCALARS[name])
    elif name in SECTIONS:
        yield from _section(name, value, _fields(SECTIONS[name]))
        yield from _rest(name, value, config) if isinstance(value, dict) else ()
    elif name in COMPONENTS:
        yield from _component(name, name, value)
    elif name in LISTS:
        yield from _measures(name, value)
    else:
        known = sorted((*SCALARS, *SECTIONS, *COMPONENTS, *LISTS))
        yield _(
            "{name}: no such key; the keys are {known}", name=_short(name), known=", ".join(known)
        )


def _fields(section: type) -> dict[str, Any]:
    return typing.get_type_hints(section, include_extras=True)


def component(group: str, config: dict[str, Any]) -> Component:
    """The component of a group in a configuration without faults."""
    return find(group, config[group]["kind"])


def origin(config: dict[str, Any]) -> dict[str, Any] | None:
    """The base recipe of a fine-tuning, as in its file, and the RoPE scaling from the base's
    context length to this recipe's. None if weights are initialized at random."""
    train = config["train"]
    if train["base"] is None:
        return None
    base = read_choice("train", train["base"], config)
    scaling = read_choice("scaling", train["scaling"], config)
    if "factor" in scaling:
        scaling["factor"] = train["context"] / base["context"]
    return {"train": base, "scaling": scaling}


def _targets(node: Any, path: str) -> Iterator[str]:
    """Faults of keys that begin with `_`, as Hydra's `_target_`: a configuration must not name
    code."""
    if isinstance(node, dict):
        for key, value in node.items():
            where = f"{path}.{key}"
            if str(key).startswith("_"):
                yield _(
                    "{where}: a configuration holds data, never code; remove the key", where=where
                )
            yield from _targets(value, where)
    elif isinstance(node, list):
        for i, value in enumerate(node):
            yield from _targets(value, f"{path}.{i}")


def _rest(name: str, value: dict[str, Any], config: dict[str, Any]) -> Iterator[str]:
    """Faults of a section beyond types and ranges: names of files and folders."""
    if name == "train":
        yield from _names(value, config)
    elif name in ("store", "data"):
        yield from folder_faults(f"{name}.dir", value.get("dir"))
    elif name == "run" and isinstance(value.get("sweep"), str):
        yield from name_faults("run.sweep", value["sweep"])


def _names(train: dict[str, Any], config: dict[str, Any]) -> Iterator[str]:
    """Faults of the recipe's knobs that name files of conf/, and of its base recipe."""
    for knob, group in NAMES.items():
        name = train.get(knob)
        if not isinstance(name, str):
            continue
        if name not in choices_of(group):
            known = ", ".join(choices_of(group))
            yield _(
                "train.{knob}={name}: must be one of {known}",
                knob=knob,
                name=_short(name),
                known=known,
            )
        elif group == "train":
            base = read_choice(group, name, config)
            yield from _section(f"train.{knob}={name}", base, _fields(Train))


def name_faults(key: str, name: str) -> list[str]:
    """Faults of a name used as a folder: it must be plain, so that it cannot lead elsewhere."""
    if re.fullmatch(r"\w[\w.,-]*", name) and len(name.encode()) <= LONGEST_NAME:
        return []
    return [
        _(
            "{key}={name}: must be a plain name of letters, digits, . _ - "
            "and , in at most {n} bytes",
            key=key,
            name=_short(name),
            n=LONGEST_NAME,
        )
    ]


def folder_faults(key: str, path: Any) -> list[str]:
    """Faults of a folder's path: it must be non-empty and valid in a file system."""
    if not isinstance(path, str):
        return []  # reported by the check of types
    said = f"{key}={_short(path)}: "
    if not path.strip():
        return [said + _("must name a folder (is a variable unset?); . is the working folder")]
    if path.startswith("~"):
        return [said + _("no such home; write the folder itself")]
    if not path.isprintable() or max(len(os.fsencode(p)) for p in path.split("/")) > LONGEST_PART:
        return [
            said
            + _(
                "must be a path of printable names of at most {n} bytes",
                n=LONGEST_PART,
            )
        ]
    return []


def _value(key: str, value: Any, annotation: Any) -> list[str]:
    rule = complaint(value, annotation)
    return (
        [_("{key}={value}: must be {rule}", key=key, value=_short(value), rule=rule)]
        if rule
        else []
    )


def _short(value: Any) -> str:
    text = "null" if value is None else str(value)
    text = "".join(c if c.isprintable() else "?" for c in text)
    return text if len(text) <= 60 else text[:57] + "..."


def _section(name: str, value: Any, fields: dict[str, Any]) -> list[str]:
    if not isinstance(value, dict):
        return [
            _(
                "{name}={value}: must be a mapping with {fields}",
                name=name,
                value=_short(value),
                fields=", ".join(fields),
            )
        ]
    complaints = [
        _(
            "{name}.{key}: no such knob; {name} has {fields}",
            name=name,
            key=key,
            fields=", ".join(sorted(fields)) or "none",
        )
        for key in value
        if key not in fields
    ]
    for key, annotation in fields.items():
        if key in value:
            complaints += _value(f"{name}.{key}", value[key], annotation)
        elif key not in ADDED_AUTOS:
            complaints.append(
                _("{name}.{key}: missing; the yaml must write every knob", name=name, key=key)
            )
    return complaints


def _component(group: str, where: str, value: Any) -> list[str]:
    if not isinstance(value, dict) or not isinstance(value.get("kind"), str):
        return [
            _("{where}={value}: must be a mapping with a `kind`", where=where, value=_short(value))
        ]
    try:
        knobs = find(group, value["kind"]).knobs
    except ValueError as error:
        return [str(error)]
    return _section(where, {k: v for k, v in value.items() if k != "kind"}, knobs)


def _measures(group: str, value: Any) -> list[str]:
    fields: dict[str, Any] = {"threads": Few | Literal["auto"]} if group == "bench" else {}
    if not isinstance(value, dict) or not isinstance(value.get("measures"), dict):
        return [
            _(
                "{group}={value}: must be a mapping with `measures`",
                group=group,
                value=_short(value),
            )
        ]
    rest = {k: v for k, v in value.items() if k != "measures"}
    complaints = _section(group, rest, fields)
    for name, entry in value["measures"].items():
        complaints += _component(group, f"{group}.measures.{name}", entry)
    return complaints
