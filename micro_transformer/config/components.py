"""Finds the class behind a `kind:` and reads its knobs and facts from source, without importing it.

A group of components has a home (a folder of modules) and a base class, see `groups.py`. All
subclasses in the home are found by parsing its files, so a new component is one class and one yaml.
Knobs are the keyword-only arguments of the constructor, with value ranges as annotations
(`knobs.py`), and with a `**` those of its base class; facts are literals in the class body, such as
`gives_weights = True`. A knob's default is its neutral value: a configuration without the knob
means the default, and at the default the knob is left out of fingerprints (`neutral.py`).
"""

import ast
import difflib
import importlib
import sys
import typing
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any

from micro_transformer.config import knobs
from micro_transformer.config.groups import GROUPS
from micro_transformer.config.knobs import WHOLE
from micro_transformer.wording import _

PACKAGE = Path(__file__).resolve().parents[1]
ABSTRACT = "abstract"  # a class that assigns this in its body is a base class, not a component
BUILTINS: dict[str, Any] = {"int": int, "float": float, "bool": bool, "str": str, "None": None}


@dataclass(frozen=True)
class Component:
    """A class that a configuration can name, as read from its source."""

    group: str
    kind: str
    module: str
    knobs: dict[str, Any] = field(default_factory=dict)  # name -> annotation
    defaults: dict[str, Any] = field(default_factory=dict)  # knob -> neutral value, if it has one
    facts: dict[str, Any] = field(default_factory=dict)

    def load(self) -> type:
        """The class itself; imports its module."""
        return getattr(importlib.import_module(self.module), self.kind)


@cache
def catalog(group: str) -> dict[str, Component]:
    """Maps kind -> Component, for every concrete subclass of the base class in the group's home."""
    asked = GROUPS[group]
    assert asked.home is not None, f"{group}: has no components"
    home, base = PACKAGE / asked.home, asked.base
    classes: dict[str, tuple[ast.ClassDef, str]] = {}
    for path in sorted(home.glob("*.py")):
        module = ".".join(("micro_transformer", *path.relative_to(PACKAGE).with_suffix("").parts))
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef):
                classes[node.name] = (node, module)
    return {
        name: Component(
            group,
            name,
            module,
            knobs={k: annotation for k, (annotation, _default) in parameters.items()},
            defaults={k: ast.literal_eval(d) for k, (_kind, d) in parameters.items() if d},
            facts=_facts(node, classes),
        )
        for name, (node, module) in classes.items()
        if _descends(node, base, classes) and not _is_abstract(node)
        for parameters in [_constructor(node, classes)]
    }


def find(group: str, kind: str) -> Component:
    """The component of this kind; raises ValueError with the nearest name if there is none."""
    known = catalog(group)
    if kind not in known:
        near = difflib.get_close_matches(kind, known, 1)
        hint = _("; did you mean {near}?", near=near[0]) if near else ""
        raise ValueError(
            _(
                "{group}.kind={kind}: no such class in micro_transformer/{home}{hint}",
                group=group,
                kind=kind,
                home=GROUPS[group].home,
                hint=hint,
            )
        )
    return known[kind]


def make(group: str, choice: dict[str, Any], *runtime: Any) -> Any:
    """An instance of the component that `choice` describes: its knobs are passed by keyword, the
    `runtime` arguments by position."""
    knobs = {key: value for key, value in choice.items() if key != "kind"}
    return find(group, choice["kind"]).load()(*runtime, **knobs)


def _lineage(node: ast.ClassDef, classes: dict[str, Any]) -> list[ast.ClassDef]:
    """The class and its bases within the home, nearest first."""
    bases = [b.id for b in node.bases if isinstance(b, ast.Name) and b.id in classes]
    return [node] + [a for name in bases for a in _lineage(classes[name][0], classes)]


def _descends(node: ast.ClassDef, base: str, classes: dict[str, Any]) -> bool:
    """Whether the class, by its bases within the home, descends from the class named `base`."""
    bases = [ast.unparse(b).split(".")[-1] for a in _lineage(node, classes) for b in a.bases]
    return base in bases


def _is_abstract(node: ast.ClassDef) -> bool:
    """Whether the class itself is marked abstract; subclasses do not inherit the mark."""
    assigned = [item.targets[0] for item in node.body if isinstance(item, ast.Assign)]
    return ABSTRACT in map(ast.unparse, assigned)


def _constructor(
    node: ast.ClassDef, classes: dict[str, Any]
) -> dict[str, tuple[Any, ast.expr | None]]:
    """Maps knob -> (annotation, default), None without a default. A constructor that takes `**` of
    them has the knobs of its base class too."""
    found: dict[str, tuple[Any, ast.expr | None]] = {}
    for ancestor in _lineage(node, classes):
        for item in ancestor.body:
            if isinstance(item, ast.FunctionDef) and item.name == "__init__":
                pairs = zip(item.args.kwonlyargs, item.args.kw_defaults, strict=True)
                found |= {a.arg: (_annotation(a, node.name), default) for a, default in pairs}
                if item.args.kwarg is None:
                    return found
            if isinstance(item, ast.AnnAssign) and _is_dataclass(ancestor):
                return found | {
                    f.target.id: (_resolve(f.annotation), f.value)
                    for f in ancestor.body
                    if isinstance(f, ast.AnnAssign) and isinstance(f.target, ast.Name)
                }
    return found


def _is_dataclass(node: ast.ClassDef) -> bool:
    return any("dataclass" in ast.unparse(d) for d in node.decorator_list)


def _facts(node: ast.ClassDef, classes: dict[str, Any]) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    for ancestor in reversed(_lineage(node, classes)):
        for item in ancestor.body:
            if isinstance(item, ast.Assign) and isinstance(item.targets[0], ast.Name):
                target, value = item.targets[0].id, item.value
            elif isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
                target, value = item.target.id, item.value  # type: ignore[assignment]
            else:
                continue
            with suppress(ValueError, TypeError):
                facts[target] = ast.literal_eval(value)  # type: ignore[arg-type]
    return facts


def _annotation(arg: ast.arg, owner: str) -> Any:
    assert arg.annotation is not None, f"{owner}: knob {arg.arg} needs a type of knobs.py"
    return _resolve(arg.annotation)


def _resolve(node: ast.expr) -> Any:
    """The type that an annotation names; raises TypeError for types that a knob cannot have."""
    match node:
        case ast.Constant(value=None):
            return None
        case ast.Constant(value=str(text)):
            return _resolve(ast.parse(text, mode="eval").body)
        case ast.Name(id=name) if name in BUILTINS:
            return BUILTINS[name]
        case ast.Name(id=name) | ast.Attribute(attr=name) if hasattr(knobs, name):
            return getattr(knobs, name)
        case ast.BinOp(op=ast.BitOr()):
            return typing.Union[_resolve(node.left), _resolve(node.right)]  # noqa: UP007
        case ast.Subscript(value=ast.Name(id="Literal")):
            return typing.Literal[ast.literal_eval(node.slice)]
        case ast.Subscript(value=ast.Name(id="list")):
            return list[_resolve(node.slice)]  # type: ignore[misc]
    raise TypeError(_("a knob cannot be of type {type}", type=ast.unparse(node)))


def complaint(value: Any, annotation: Any) -> str | None:
    """The rule that the value breaks, as text; None if it fits the annotation."""
    options = _options(annotation)
    rules = []
    for allowed in options:
        rule = _single(value, allowed)
        if rule is None:
            return None
        rules.append(rule)
    return " or ".join(rules)


def _options(annotation: Any) -> tuple[Any, ...]:
    if typing.get_origin(annotation) in (typing.Union, UnionType):
        return typing.get_args(annotation)
    return (annotation,)


def _single(value: Any, allowed: Any) -> str | None:
    origin = typing.get_origin(allowed)
    if allowed in (None, NoneType):
        return None if value is None else "null"
    if origin is typing.Literal:
        names = typing.get_args(allowed)
        exact = any(value == n and type(value) is type(n) for n in names)
        return None if exact else _("one of {names}", names=", ".join(map(str, names)))
    if origin is list:
        if not isinstance(value, list):
            return _("a list")
        return next(
            (r for item in value if (r := complaint(item, typing.get_args(allowed)[0]))), None
        )
    base, bounds = allowed, None
    if origin is typing.Annotated:
        base, bounds = typing.get_args(allowed)[:2]
    if not _is_a(value, base):
        return {
            int: _("a whole number"),
            float: _("a number"),
            bool: _("true or false"),
            str: _("text"),
        }[base] + (_(" in {bounds}", bounds=bounds) if bounds else "")
    return None if bounds is None or bounds.holds(value) else f"in {bounds}"


def _is_a(value: Any, base: type) -> bool:
    if base is float:
        largest = WHOLE if isinstance(value, int) else sys.float_info.max  # as records hold them
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return is_number and abs(value) <= largest  # never NaN
    if base is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, base)
