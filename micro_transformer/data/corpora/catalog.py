"""Every corpus by name, found by listing this folder; a new corpus is a new module."""

import importlib
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any, get_type_hints

from micro_transformer.config.components import complaint
from micro_transformer.data.corpora.base import Corpus
from micro_transformer.wording import _, clean


@cache
def catalog() -> dict[str, type[Corpus]]:
    """Maps name -> class of every corpus."""
    for path in sorted(Path(__file__).parent.glob("*.py")):
        if path.stem != "__init__":
            importlib.import_module(f"{__package__}.{path.stem}")
    return {cls.name: cls for cls in sorted(Corpus.__subclasses__(), key=lambda c: c.name)}


def corpus(name: str, knobs: dict[str, Any]) -> Corpus:
    """The corpus with these knobs; knobs of others are ignored. Raises ValueError."""
    known = catalog()
    if name not in known:
        raise ValueError(
            _(
                "task={name}: no such corpus; there are {known}",
                name=clean(name),
                known=", ".join(known),
            )
        )
    cls = known[name]
    hints = get_type_hints(cls, include_extras=True)
    mine = {f.name: knobs[f.name] for f in fields(cls) if f.name in knobs}
    for key, value in mine.items():
        if rule := complaint(value, hints[key]):
            raise ValueError(
                _("{key}={value}: must be {rule}", key=key, value=clean(value), rule=rule)
            )
    return cls(**mine)
