"""Renders templates/ with jinja2: whatever is not markup is escaped, wherever it is put."""

import base64
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from micro_transformer.records.cells import Code
from micro_transformer.wording import _, printable

FOLDER = Path(__file__).with_name("templates")


def render(name: str, **values: Any) -> str:
    """The template `name`, filled in; control and invisible characters in values are removed."""
    return _environment().get_template(name).render(values)


def source(name: str) -> Markup:
    """A file of templates/, to be put in as it is."""
    return Markup((FOLDER / name).read_text(encoding="utf-8"))


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_clean,
    )
    environment.globals["_"] = _
    environment.filters["base64"] = lambda data: base64.b64encode(data).decode()
    environment.tests["figure"] = lambda v: isinstance(v, int | float) and type(v) is not bool
    environment.tests["code"] = lambda cell: isinstance(cell, Code)
    return environment


def _clean(value: Any) -> Any:
    if isinstance(value, str) and not isinstance(value, Markup):
        return "\n".join(printable(line) for line in value.split("\n"))
    return value
