"""From a command line to the jobs it means, checked before anything runs. Knows no torch."""

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from micro_transformer import schema
from micro_transformer.fingerprint import digest

# Of Hydra's own settings a command may set these; the others could name code to run.
OPEN_SETTINGS = re.compile(
    r"hydra\.(run\.dir|sweep\.(dir|subdir)|mode|verbose|sweeper\.max_batch_size|sweeper\.params\..+"
    r"|launcher\.(?!_)[a-z_.]+)$|hydra/launcher$"
)
# Up to so many jobs each is composed; of larger sweeps, every value once.
COMPOSED_JOBS = 6


class BadConfig(Exception):
    """What is wrong with a command line, one line each."""

    def __init__(self, lines: Iterable[str]):
        self.lines = list(dict.fromkeys(lines))
        super().__init__("\n".join(self.lines))


@dataclass(frozen=True)
class Job:
    """One cell of a sweep: the choices that make it and the configuration they resolve to."""

    overrides: tuple[str, ...]
    choices: dict[str, str]
    config: dict[str, Any]
    folder: Path

    @property
    def id(self) -> str:
        return identity(self.config)


@dataclass(frozen=True)
class Plan:
    """What a command line means; of a large sweep `jobs` holds a sample of the cells."""

    jobs: list[Job]
    cells: int
    folder: Path
    multirun: bool
    arguments: list[str]


def identity(config: dict[str, Any]) -> str:
    """The hash of what a run computes: everything but where things lie and how they are run."""
    ignored = (*schema.WITHOUT_IDENTITY, "hydra")
    return digest({key: value for key, value in config.items() if key not in ignored})


def job_name(_root_: DictConfig) -> str:
    """Folder name of a job: a few choices to read and the hash that tells jobs apart."""
    choices = _root_.hydra.runtime.choices
    config = {k: v for k, v in _root_.items_ex(resolve=False) if k != "hydra"}
    plain = OmegaConf.to_container(OmegaConf.create(config), resolve=True)
    assert isinstance(plain, dict)
    words = [choices[g] for g in ("model", "posenc", "cache", "decoding") if choices.get(g)]
    return "-".join((*words, f"s{plain['seed']}", identity(plain)[:8]))


OmegaConf.register_new_resolver("job_name", job_name, replace=True)


def make_plan(arguments: Sequence[str]) -> Plan:
    """The jobs of a command line; BadConfig with every complaint when one could not run."""
    flags = [a for a in arguments if a.startswith("-")]
    texts = [a for a in arguments if not a.startswith("-")]
    with initialize_config_dir(str(schema.CONF), version_base="1.3", job_name="run"):
        parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
        overrides = _parsed(parser, texts)
        base = _compose([o.input_line for o in overrides if not o.is_sweep_override()])
        mode = base.hydra.mode
        multirun = (
            bool({"-m", "--multirun"} & set(flags)) or getattr(mode, "name", mode) == "MULTIRUN"
        )
        if not multirun:
            return _single(base, overrides, texts)
        params = [f"{k}={v}" for k, v in (base.hydra.sweeper.params or {}).items()]
        return _sweep(_parsed(parser, params) + overrides, texts, base)


def _single(base: DictConfig, overrides: list[Any], texts: list[str]) -> Plan:
    swept = [o for o in overrides if o.is_sweep_override()]
    if swept:
        raise BadConfig([f"{o.input_line}: several values are a sweep; add -m" for o in swept])
    job = _job(base, texts, Path(base.hydra.run.dir))
    _refuse([job], alone=True)
    return Plan([job], 1, job.folder, False, texts)


def _sweep(overrides: list[Any], texts: list[str], base: DictConfig) -> Plan:
    arguments = list(texts)
    if base.run.sweep is None:
        arguments.append(f"run.sweep={_sweep_name(overrides)}")
    extra = arguments[len(texts) :]
    (cells,) = BasicSweeper.split_arguments(overrides, None)
    jobs = []
    for cell in cells if len(cells) <= COMPOSED_JOBS else _each_value_once(cells):
        config = _compose([*cell, *extra])
        folder = Path(config.hydra.sweep.dir) / config.hydra.sweep.subdir
        jobs.append(_job(config, cell, folder))
    _refuse(jobs, alone=False)
    return Plan(jobs, len(cells), jobs[0].folder.parent, True, arguments)


def _sweep_name(overrides: list[Any]) -> str:
    """The same command, the same name: what is swept, and a hash of the whole."""
    swept = [
        o.get_key_element().lstrip("+").split(".")[-1] for o in overrides if o.is_sweep_override()
    ]
    lines = sorted(
        o.input_line for o in overrides if not o.key_or_group.startswith(("run.", "hydra"))
    )
    return "-".join((*swept, digest(lines)[:6]))


def _each_value_once(cells: list[list[str]]) -> list[list[str]]:
    """A few cells that together hold every value of every swept key."""
    seen: set[str] = set()
    chosen = []
    for cell in cells:
        if not seen.issuperset(cell):
            seen.update(cell)
            chosen.append(cell)
    return chosen


def _parsed(parser: OverridesParser, texts: list[str]) -> list[Any]:
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
        raise BadConfig([f"{_first_line(error)}; write key=value"]) from error
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


def _compose(overrides: list[str]) -> DictConfig:
    try:
        return compose("config", overrides=overrides, return_hydra_config=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise BadConfig([_unknown_key(error, overrides)]) from error


def _unknown_key(error: Exception, overrides: list[str]) -> str:
    """Hydra's complaint in one line; for an unknown key, the nearest one."""
    match = re.search(r"Could not override '([^']+)'", str(error))
    if not match:
        return _first_line(error)
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


def _job(config: DictConfig, overrides: Sequence[str], folder: Path) -> Job:
    choices = {
        k: str(v) for k, v in config.hydra.runtime.choices.items() if not k.startswith("hydra/")
    }
    user = {k: v for k, v in config.items_ex(resolve=False) if k != "hydra"}
    plain = OmegaConf.to_container(OmegaConf.create(user), resolve=True)
    assert isinstance(plain, dict)
    return Job(tuple(overrides), choices, plain, folder)  # type: ignore[arg-type]


def _refuse(jobs: list[Job], alone: bool) -> None:
    """BadConfig when a value is wrong anywhere, or when not one cell makes sense."""
    faults = [line for job in jobs for line in schema.faults(job.config)]
    if faults:
        raise BadConfig(faults)
    misfits = [schema.misfits(job.config) for job in jobs]
    if all(misfits):
        raise BadConfig(line for lines in misfits for line in lines)


def _near(word: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(str(word), list(known), 1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else ""


def _first_line(error: Exception) -> str:
    return _clean(
        next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    )


def _clean(text: Any) -> str:
    shown = "".join(c if c.isprintable() else "?" for c in str(text))
    return shown if len(shown) <= 100 else shown[:97] + "..."
