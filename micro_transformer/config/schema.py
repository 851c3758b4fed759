"""Checks types and ranges of a configuration. Needs no torch.

`faults` returns each error as one line: key=value, the rule, the cure. Knobs of components are
checked against their constructors (`components.py`), the rest against dataclasses (`sections.py`).
"""

import os
import re
import typing
from collections.abc import Iterable, Iterator
from typing import Any, Literal

from micro_transformer.config.choices import CONF as CONF
from micro_transformer.config.choices import choices_of, read_choice
from micro_transformer.config.choices import groups as groups
from micro_transformer.config.components import Component, complaint, find
from micro_transformer.config.groups import COMPONENTS as COMPONENTS
from micro_transformer.config.groups import GROUPS, is_neutral
from micro_transformer.config.groups import LISTS as LISTS
from micro_transformer.config.knobs import Count, Few, Size
from micro_transformer.config.sections import SECTIONS as SECTIONS
from micro_transformer.config.sections import defaults
from micro_transformer.wording import N_, _, clean, translate

SCALARS: dict[str, Any] = {
    "seed": Size,
    "ranks": Count,
    "device": Literal["auto", "cpu", "cuda"],
    "check": bool,
}
# Knobs of recipes and bases that name a file of conf/<group>.
NAMES = {"train": "train", "base": "base", "scaling": "scaling", "kernel": "attention"}
NAMES |= {"task": "task", "arch": "arch"}
# Knobs of earlier versions, and what to write instead.
MOVED = {"train.base": N_("is a group now; remove it and choose base=long or another of conf/base")}
NO_SCALING = GROUPS["scaling"].neutral["kind"]
LONGEST_NAME, LONGEST_PART = 120, 255  # bytes: names of the lab's folders, any path component
WITHOUT_IDENTITY = ("run", "store", "data", "check")


def faults(config: dict[str, Any], parts: Iterable[str] = ()) -> list[str]:
    """All invalid keys and values, one line each. parts: top-level keys to check; default: all."""
    names = parts or dict.fromkeys((*SCALARS, *SECTIONS, *COMPONENTS, *LISTS, *config))
    return [line for name in names for line in _part(name, config.get(name), config)]


def _part(name: str, value: Any, config: dict[str, Any]) -> Iterator[str]:
    yield from _targets(value, name)
    if is_neutral(name, value):
        return
    if name in SCALARS:
        yield from _value(name, value, SCALARS[name])
    elif name in SECTIONS:
        yield from _section(name, value, SECTIONS[name])
        yield from _rest(name, value, config) if isinstance(value, dict) else ()
    elif name in COMPONENTS:
        yield from _component(name, name, value)
    elif name in LISTS:
        yield from _measures(name, value)
    else:
        known = sorted((*SCALARS, *SECTIONS, *COMPONENTS, *LISTS))
        yield f"{_short(name)}: " + _("no such key; the keys are {known}", known=", ".join(known))


def component(group: str, config: dict[str, Any]) -> Component:
    """The component of a group in a configuration without faults."""
    return find(group, config[group]["kind"])


def _targets(node: Any, path: str) -> Iterator[str]:
    """Faults of keys that begin with `_`, as Hydra's `_target_`: a configuration must not name
    code."""
    if isinstance(node, dict):
        for key, value in node.items():
            where = f"{path}.{key}"
            if str(key).startswith("_"):
                yield f"{where}: " + _("a configuration is data, never code; remove the key")
            yield from _targets(value, where)
    elif isinstance(node, list):
        for i, value in enumerate(node):
            yield from _targets(value, f"{path}.{i}")


def _rest(name: str, value: dict[str, Any], config: dict[str, Any]) -> Iterator[str]:
    """Faults of a section beyond types and ranges: names of files and folders."""
    if name in ("train", "base"):
        yield from _names(name, value, config)
    elif name in ("store", "data"):
        yield from folder_faults(f"{name}.dir", value.get("dir"))
    elif name == "run" and isinstance(value.get("sweep"), str):
        yield from name_faults("run.sweep", value["sweep"])


def _names(
    where: str, knobs: dict[str, Any], config: dict[str, Any], above: tuple[str, ...] = ()
) -> Iterator[str]:
    """Faults of the knobs of a recipe or base that name files of conf/, and of those recipes and
    bases. above: the bases that lead here."""
    for knob, group in NAMES.items():
        name = knobs.get(knob)
        if not isinstance(name, str):
            continue
        told = f"{where}.{knob}={_short(name)}"
        if name not in choices_of(group):
            known = ", ".join(choices_of(group))
            yield f"{told}: " + _("must be one of {known}", known=known)
        elif group == "base" and name in above:
            yield f"{told}: " + _("starts from its own weights; name another base")
        elif group in SECTIONS:
            content = read_choice(group, name, config)
            if not is_neutral(group, content):
                yield from _section(told, content, SECTIONS[group])
                yield from _names(told, content, config, (*above, name)) if content else ()


def name_faults(key: str, name: str) -> list[str]:
    """Faults of a name used as a folder: it must be plain, so that it cannot lead elsewhere."""
    if re.fullmatch(r"\w[\w.,-]*", name) and len(name.encode()) <= LONGEST_NAME:
        return []
    rule = _("must be a plain name of at most {n} letters, digits, . _ - and ,", n=LONGEST_NAME)
    return [f"{key}={_short(name)}: {rule}"]


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
        return [said + _("must be a path of printable names of at most {n} bytes", n=LONGEST_PART)]
    return []


def _value(key: str, value: Any, annotation: Any) -> list[str]:
    rule = complaint(value, annotation)
    return [f"{key}={_short(value)}: " + _("must be {rule}", rule=rule)] if rule else []


def _short(value: Any) -> str:
    return clean("null" if value is None else value, 60)


def _no_mapping(key: str, value: Any, keys: str) -> str:
    return f"{key}={_short(value)}: " + _("must be a mapping with {keys}", keys=keys)


def _section(name: str, value: Any, section: type) -> list[str]:
    fields = typing.get_type_hints(section, include_extras=True)
    return _knobs(name, value, fields, defaults(section))


def _knobs(
    name: str, value: Any, fields: dict[str, Any], absent: dict[str, Any] | None = None
) -> list[str]:
    """Faults of knobs, given their types. absent: the values of knobs that may be left out."""
    if not isinstance(value, dict):
        return [_no_mapping(name, value, ", ".join(fields))]
    known = ", ".join(sorted(fields)) or _("none")
    rule = _("no such knob; {group} has {known}", group=name, known=known)
    strangers = [f"{name}.{key}" for key in value if key not in fields]
    complaints = [f"{key}: {translate(MOVED[key]) if key in MOVED else rule}" for key in strangers]
    for key, annotation in fields.items():
        if key in value:
            complaints += _value(f"{name}.{key}", value[key], annotation)
        elif key not in (absent or {}):
            complaints.append(f"{name}.{key}: " + _("missing; the yaml must write every knob"))
    return complaints


def _component(group: str, where: str, value: Any) -> list[str]:
    if not isinstance(value, dict) or not isinstance(value.get("kind"), str):
        return [_no_mapping(where, value, "kind")]
    try:
        found = find(group, value["kind"])
    except ValueError as error:
        return [str(error)]
    knobs = {k: v for k, v in value.items() if k != "kind"}
    return _knobs(where, knobs, found.knobs, found.defaults)


def _measures(group: str, value: Any) -> list[str]:
    fields: dict[str, Any] = {"threads": Few | Literal["auto"]} if group == "bench" else {}
    if not isinstance(value, dict) or not isinstance(value.get("measures"), dict):
        return [_no_mapping(group, value, "measures")]
    rest = {k: v for k, v in value.items() if k != "measures"}
    complaints = _knobs(group, rest, fields)
    for name, entry in value["measures"].items():
        complaints += _component(group, f"{group}.measures.{name}", entry)
    return complaints
