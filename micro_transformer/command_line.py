"""The words of a command line: read with Hydra's grammar, refused in one line each."""

import difflib
import re
from collections.abc import Iterable
from typing import Any

from hydra import compose
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from micro_transformer import schema

# Of Hydra's own settings a command may set these; the others could name code to run.
OPEN_SETTINGS = re.compile(
    r"hydra\.(run\.dir|sweep\.(dir|subdir)|mode|verbose|sweeper\.max_batch_size|sweeper\.params\..+"
    r"|launcher\.(?!_|setup|teardown|python|srun_args)[a-z_.]+)$|hydra/launcher$"
)


class BadConfig(Exception):
    """What is wrong with a command line, one line each."""

    def __init__(self, lines: Iterable[str]):
        self.lines = list(dict.fromkeys(lines))
        super().__init__("\n".join(self.lines))


def parsed(parser: OverridesParser, texts: list[str]) -> list[Any]:
    """Hydra's overrides; BadConfig with every complaint about groups, choices and settings."""
    complaints = []
    for text in texts:
        if "${" in text:
            complaints.append(f"{_clean(text)}: an interpolation; write the value itself")
        elif any(not c.isprintable() for c in text):
            complaints.append(f"{_clean(text)}: holds control characters")
    if complaints:
        raise BadConfig(complaints)
    try:
        overrides = parser.parse_overrides(list(texts))
    except (HydraException, OmegaConfBaseException) as error:
        raise BadConfig([f"{first_line(error)}; write key=value"]) from error
    complaints = [c for o in overrides for c in _override_complaints(o)]
    if complaints:
        raise BadConfig(complaints)
    return overrides


def _override_complaints(override: Any) -> Iterable[str]:
    """Unknown groups, choices and settings, with the nearest name."""
    key, groups = override.key_or_group, schema.groups()
    if key.startswith("hydra"):
        if not OPEN_SETTINGS.match(key):
            yield f"{_clean(override.input_line)}: closed here; it could run code"
        return
    if override.is_delete() or override.is_add() or override.is_force_add():
        yield f"{_clean(override.input_line)}: keys cannot be added or removed; write key=value"
    elif key in groups:
        for value in _group_values(override):
            if value not in schema.choices_of(key):
                known = schema.choices_of(key)
                hint = _near(value, known)
                yield f"{key}={_clean(value)}: must be one of {', '.join(known)}{hint}"


def _group_values(override: Any) -> list[str]:
    if override.is_sweep_override():
        return list(override.sweep_string_iterator())
    return [str(override.value())]


def unknown_key(error: Exception, overrides: list[str]) -> str:
    """Hydra's complaint in one line; for an unknown key, the nearest one."""
    match = re.search(r"Could not override '([^']+)'", str(error))
    if not match:
        return first_line(error)
    keys = _known_keys(
        compose("config", overrides=[o for o in overrides if o.split("=")[0] in schema.groups()])
    )
    return f"{_clean(match[1])}: no such key{_near(match[1], keys)}"


def _known_keys(node: Any, prefix: str = "") -> list[str]:
    keys = schema.groups() if not prefix else []
    for key, value in node.items():
        keys.append(f"{prefix}{key}")
        if isinstance(value, DictConfig):
            keys += _known_keys(value, f"{prefix}{key}.")
    return keys


def _near(word: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(str(word), list(known), 1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else ""


def first_line(error: Exception) -> str:
    return _clean(
        next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    )


def _clean(text: Any) -> str:
    shown = "".join(c if c.isprintable() else "?" for c in str(text))
    return shown if len(shown) <= 100 else shown[:97] + "..."
