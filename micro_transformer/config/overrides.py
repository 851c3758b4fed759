"""Parses command-line overrides with Hydra's grammar; each faulty one is rejected in one line."""

import itertools
import math
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import (
    Override,
    Quote,
    QuotedString,
    RangeSweep,
    Sweep,
    Transformer,
)

from micro_transformer.config import choices
from micro_transformer.config.schema import SECTIONS
from micro_transformer.console import near
from micro_transformer.wording import _, clean

LARGEST = 10_000  # maximum number of jobs per sweep
LONGEST_KEY = 200
# The only Hydra settings that a command may set; others could name code to run.
OPEN_SETTINGS = re.compile(
    r"hydra\.(run\.dir|sweep\.(dir|subdir)|mode|verbose|sweeper\.max_batch_size|sweeper\.params\..+"
    r"|launcher\.(?!_|setup|teardown|python|srun_args)[a-z_.]+)$|hydra/launcher$"
)
# Their values are literal text with any characters, never a list of values to sweep over.
FOLDERS = ("store.dir", "data.dir", "hydra.run.dir", "hydra.sweep.dir")
TEXTS = (*FOLDERS, "hydra.sweep.subdir", "run.sweep")
SWEEPING = ("-m", "--multirun")
SHOWING = ("--help", "-h", "--hydra-help", "--version", "--cfg", "-c", "--info", "-i")
COMPLETING = ("--shell-completion", "-sc")
FLAGS = (*SWEEPING, "--run", "-r", *SHOWING, *COMPLETING, "--resolve", "--package", "-p")
ARGUMENTS = {
    **dict.fromkeys(("--cfg", "-c"), ("job", "hydra", "all")),
    **dict.fromkeys(
        ("--info", "-i"),
        ("", "all", "config", "defaults", "defaults-tree", "plugins", "searchpath"),
    ),
    **dict.fromkeys(("--package", "-p"), ()),
}
Cell = dict[str, Any]  # override (`key=value`) -> parsed value, for one job


class BadConfig(Exception):
    """A faulty command line; `lines`: one line per error."""

    def __init__(self, lines: Iterable[str]):
        self.lines = list(dict.fromkeys(lines))
        super().__init__("\n".join(self.lines))


@dataclass(frozen=True)
class Words:
    """A split command line: flags with their arguments, and overrides as text."""

    flags: list[str]
    texts: list[str]

    def has(self, names: Iterable[str]) -> bool:
        """Whether one of these flags was given."""
        return any(flag.split("=")[0] in names for flag in self.flags)


def split(arguments: Sequence[str]) -> Words:
    """The flags and the overrides; raises BadConfig for unknown flags, with the nearest name."""
    if set(arguments) & set(COMPLETING):
        return Words(list(arguments), [])
    flags, texts, complaints, rest = [], [], [], list(arguments)
    while rest:
        word = rest.pop(0)
        if not word.startswith("-"):
            texts.append(word)
            continue
        name, equals, value = word.partition("=")
        flags.append(word)
        if name not in FLAGS or (equals and name not in ARGUMENTS):
            complaints.append(_no_flag(word))
        elif name in ARGUMENTS:
            if not equals and rest and "=" not in rest[0] and rest[0][:1] != "-":
                value = rest.pop(0)
                flags.append(value)
            known = ARGUMENTS[name]
            if known and value not in known:
                complaints.append(
                    _(
                        "{name} {value}: must be one of {known}",
                        name=name,
                        value=clean(value),
                        known=", ".join(filter(None, known)),
                    )
                )
    if complaints:
        raise BadConfig(complaints)
    return Words(flags, texts)


def _no_flag(word: str) -> str:
    key = word.split("=")[0].lstrip("-")
    hint = near(key, [*(flag.lstrip("-") for flag in FLAGS), *choices.groups()])
    return _(
        "{word}: no such flag{hint}; the flags are -m (sweep), --help "
        "and --cfg job, all else is key=value, as in check=true (print "
        "what would run)",
        word=clean(word),
        hint=hint,
    )


def parsed(parser: OverridesParser, texts: list[str]) -> list[Any]:
    """Hydra's parsed overrides; raises BadConfig with all errors in groups, choices, settings."""
    overrides, complaints = [], []
    for text in texts:
        if (rule := _unreadable(text)) is not None:
            complaints.append(f"{clean(text)}: {rule}")
            continue
        try:
            overrides += parser.parse_overrides([_as_text(parser, text)])
        except Exception as error:  # whatever Hydra and its parser raise
            complaints.append(f"{clean(text)}: {_reason(error)}; {_quoting()}")
    complaints += [c for o in overrides for c in _override_complaints(o)]
    if complaints:
        raise BadConfig(complaints)
    return overrides


def _unreadable(text: str) -> str | None:
    """The reason to reject an override before parsing; None if there is none."""
    key = text.partition("=")[0].strip(" @")
    if not key:
        return _("no key; write key=value")
    if len(key) > LONGEST_KEY:
        return _("no key has more than {n} letters", n=LONGEST_KEY)
    if "${" in text:
        return _("an interpolation; write the value itself")
    if any(not c.isprintable() for c in text):
        return _("contains control characters")
    if text.count(",") >= LARGEST:
        return _(
            "more than {largest} values; a sweep has at most as many jobs", largest=f"{LARGEST:,}"
        )
    return None


def _as_text(parser: OverridesParser, word: str) -> str:
    """The override with its value quoted if the key takes literal text that Hydra's grammar would
    change; ~ in a folder becomes the home directory."""
    key, equals, value = word.partition("=")
    if key not in TEXTS or not equals or value[:1] in ("'", '"') or value == "null":
        return word
    if key in FOLDERS:
        value = os.path.expanduser(value)
    try:
        if parser.parse_override(f"{key}={value}").value() == value:
            return f"{key}={value}"
    except Exception:  # not in the grammar, whatever it raises
        pass
    return f"{key}={QuotedString(value, Quote.single).with_quotes()}"


def _quoting() -> str:
    return _(
        "write key=value; a value with other letters in quotes within quotes: {example}",
        example="\"key='a b'\"",
    )


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith(("Error parsing", "Error when", "See "))]
    lines = [line for line in lines if "NoViableAlt" not in line and line.strip("^")]
    return clean(lines[0] if lines else _("cannot be read"))


def _override_complaints(override: Any) -> Iterator[str]:
    """Unknown groups, choices and settings, with the nearest name."""
    key, text = override.key_or_group, clean(override.input_line)
    if key.startswith("hydra") and not OPEN_SETTINGS.match(key):
        yield _("{text}: closed here; it could run code", text=text)
    elif override.is_sweep_override() and (key.startswith("hydra") or key in TEXTS):
        yield _("{text}: cannot be swept over; give one value", text=text)
    elif override.package is not None:
        yield _("{text}: a choice has its own place; write {key}=CHOICE", text=text, key=key)
    elif override.is_delete() or override.is_add() or override.is_force_add():
        yield _("{text}: keys cannot be added or removed; write key=value", text=text)
    elif key in SECTIONS and key not in choices.groups() and not isinstance(override.value(), dict):
        yield _(
            "{text}: a section, with keys of its own; write {key}.KEY=value", text=text, key=key
        )
    elif rule := _no_values(override):
        yield f"{text}: {rule}"
    elif key in choices.groups():
        known = choices.choices_of(key)
        for value in choices_in(override):
            if value not in known:
                yield _(
                    "{key}={value}: must be one of {known}{near}",
                    key=key,
                    value=clean(value),
                    known=", ".join(known),
                    near=near(value, known),
                )


def choices_in(override: Any) -> list[str]:
    """The choices that an override selects or sweeps over."""
    values = override.sweep_iterator() if override.is_sweep_override() else [override._value]
    return ["null" if v is None else str(Override._convert_value(v)) for v in values]


def _no_values(override: Any) -> str | None:
    """The reason why an override gives no valid list of values; None if it does."""
    if override.is_interval_sweep():
        return _("an interval has no single values to try; write them, or range(start,stop,step)")
    if any(isinstance(value, Sweep) for value in getattr(override.value(), "list", ())):
        return _("a list of values within another; write one list")
    try:
        number = count(override)
    except (ValueError, ArithmeticError) as error:
        return _("{error}; write range(start,stop,step) in finite numbers, step not 0", error=error)
    if number > LARGEST:
        return _(
            "{number} values; a sweep has at most {largest} jobs",
            number=f"{number:,.0f}",
            largest=f"{LARGEST:,}",
        )
    if number == 0:
        known = choices.choices_of(override.key_or_group)
        none = _("no value")
        return none + _("; there are {known}", known=", ".join(known)) * bool(known)
    return None


def count(override: Any) -> float:
    """Number of values of an override, computed without expanding it; ValueError or
    ArithmeticError if it is not finite."""
    if not override.is_sweep_override():
        return 1
    value = override.value()
    if not isinstance(value, RangeSweep):
        return sum(1 for _ in override.sweep_iterator())
    start, stop, step = (float(v) for v in (value.start, value.stop, value.step))  # type: ignore
    return max(0, math.ceil((stop - start) / step))


def expanded(overrides: list[Any]) -> list[Cell]:
    """All cells of a sweep, as a Cartesian product. If a key is given twice, the last one counts.
    Raises BadConfig if there are more than LARGEST."""
    last = {override.get_key_element(): override for override in overrides}
    number = math.prod(count(override) for override in last.values())
    if number > LARGEST:
        n, largest = f"{number:,.0f}", f"{LARGEST:,}"
        rule = _("{n} jobs: a sweep has at most {largest}; split it", n=n, largest=largest)
        raise BadConfig([rule])
    values = [list(_values(key, override)) for key, override in last.items()]
    return [dict(cell) for cell in itertools.product(*values)]


def _values(key: str, override: Any) -> Iterator[tuple[str, Any]]:
    single = override.sweep_iterator() if override.is_sweep_override() else [override._value]
    for value in single:
        yield f"{key}={Transformer.str(value)}", Override._convert_value(value)
