"""From a command line to the jobs it means, checked before anything runs. Knows no torch."""

import copy
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from micro_transformer import fits, schema
from micro_transformer.command_line import BadConfig, parsed, unknown_key
from micro_transformer.fingerprint import digest
from micro_transformer.machine import cores, cuda_usable
from micro_transformer.ranks import Ranks

HERE = ("basic", "joblib")  # launchers whose jobs the command itself runs, `n_jobs` at once
GLOBAL_GROUPS = ("option", "sweep")  # their files write into other groups


@dataclass(frozen=True)
class Job:
    """One cell of a sweep: the choices that make it and the configuration they resolve to."""

    overrides: tuple[str, ...]
    choices: dict[str, str]
    config: dict[str, Any]
    folder: Path
    in_sweep: bool = False

    @property
    def id(self) -> str:
        return identity(self.config)


@dataclass(frozen=True)
class Plan:
    """What a command line means."""

    jobs: list[Job]
    folder: Path
    multirun: bool
    arguments: list[str]
    workers: int | None = 1  # jobs that run at once on this machine; None: on others
    by_launcher: bool = False  # whether a launcher starts them, not the command itself


def identity(config: dict[str, Any]) -> str:
    """The hash of what a run computes: everything but where things lie and how they are run."""
    ignored = (*schema.WITHOUT_IDENTITY, "hydra")
    return digest({key: value for key, value in config.items() if key not in ignored})


def in_rounds(jobs: list[Job]) -> list[Job]:
    """One seed after another, each a round of all its configurations in an order of its own. A
    machine that grows slower meanwhile slows rounds, which the statistics pair off, and not one
    configuration more than another."""
    rounds: dict[int, list[Job]] = {}
    for job in jobs:
        rounds.setdefault(job.config["seed"], []).append(job)
    for seed, members in rounds.items():
        random.Random(seed).shuffle(members)
    return [job for members in rounds.values() for job in members]


def job_name(_root_: DictConfig) -> str:
    """Folder name of the job that a composed configuration describes."""
    choices = {k: str(v) for k, v in _root_.hydra.runtime.choices.items()}
    return _folder_name(choices, _plain(_root_))


def _folder_name(choices: dict[str, str], config: dict[str, Any]) -> str:
    """A few choices to read, and the hash that tells jobs apart."""
    words = [choices[g] for g in ("model", "posenc", "cache", "decoding") if g in choices]
    return "-".join((*words, f"s{config['seed']}", identity(config)[:8]))


def _plain(config: DictConfig) -> dict[str, Any]:
    """The user's part of a composed configuration, resolved."""
    user = {k: v for k, v in config.items_ex(resolve=False) if k != "hydra"}
    return OmegaConf.to_container(OmegaConf.create(user), resolve=True)  # type: ignore[return-value]


OmegaConf.register_new_resolver("job_name", job_name, replace=True)


def make_plan(arguments: Sequence[str]) -> Plan:
    """The jobs of a command line; BadConfig with every complaint when one could not run."""
    flags = [a for a in arguments if a.startswith("-")]
    texts = [a for a in arguments if not a.startswith("-")]
    with initialize_config_dir(str(schema.CONF), version_base="1.3", job_name="run"):
        parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
        overrides = parsed(parser, texts)
        base = _compose([o.input_line for o in overrides if not o.is_sweep_override()])
        mode = base.hydra.mode
        multirun = (
            bool({"-m", "--multirun"} & set(flags)) or getattr(mode, "name", mode) == "MULTIRUN"
        )
        if not multirun:
            return _possible_here(_single(base, overrides, texts))
        if Ranks.started().size > 1:
            raise BadConfig(["-m: torchrun starts the ranks of one job; start each job by itself"])
        params = [f"{k}={v}" for k, v in (base.hydra.sweeper.params or {}).items()]
        return _possible_here(_sweep(parsed(parser, params) + overrides, texts, base))


def _single(base: DictConfig, overrides: list[Any], texts: list[str]) -> Plan:
    swept = [o for o in overrides if o.is_sweep_override()]
    if swept:
        raise BadConfig([f"{o.input_line}: several values are a sweep; add -m" for o in swept])
    job = _job(base, texts, Path(base.hydra.run.dir))
    if Ranks.started().size not in (1, job.config["ranks"]):
        raise BadConfig([f"ranks={job.config['ranks']}: torchrun started {Ranks.started().size}"])
    _refuse([job], alone=True)
    return Plan([job], job.folder, False, texts)


def _sweep(overrides: list[Any], texts: list[str], base: DictConfig) -> Plan:
    arguments = list(texts)
    if base.run.sweep is None:
        arguments.append(f"run.sweep={_sweep_name(overrides)}")
    extra = arguments[len(texts) :]
    (cells,) = BasicSweeper.split_arguments(overrides, None)
    jobs = _cells(cells, extra)
    _refuse(jobs, alone=False)
    by_launcher = base.hydra.runtime.choices["hydra/launcher"] not in HERE
    return Plan(jobs, jobs[0].folder.parent, True, arguments, _workers(base), by_launcher)


def _workers(base: DictConfig) -> int | None:
    """Jobs that the launcher runs at once on this machine; None when it takes other machines."""
    if base.hydra.runtime.choices["hydra/launcher"] not in (*HERE, "submitit_local"):
        return None
    asked = base.hydra.launcher.get("n_jobs") or 1
    return cores() + 1 + asked if asked < 0 else asked


def _cells(cells: list[list[str]], extra: list[str]) -> list[Job]:
    """Every job of a sweep. Hydra composes the first; the others differ from it by whole groups
    and single values, which is put together here a hundred times faster, where it is the same."""
    first = _composed(cells[0], extra)
    groups = schema.groups()
    simple = {key for key in map(_key, cells[0]) if key not in GLOBAL_GROUPS and "/" not in key}
    varied = {_key(word) for cell in cells for word in set(cell) - set(cells[0])}
    named = _folder_name(first.choices, first.config) == first.folder.name
    if not (varied <= simple and named and _assembled(first, cells[0], groups) == first):
        return [first, *(_composed(cell, extra) for cell in cells[1:])]
    return [first, *(_assembled(first, cell, groups) for cell in cells[1:])]


def _composed(cell: list[str], extra: list[str]) -> Job:
    config = _compose([*cell, *extra])
    folder = Path(config.hydra.sweep.dir) / config.hydra.sweep.subdir
    return _job(config, cell, folder, in_sweep=True)


def _assembled(like: Job, cell: list[str], groups: list[str]) -> Job:
    """The job of a cell, from a job of the same sweep and the files of the chosen groups."""
    config, choices = dict(like.config), dict(like.choices)
    for word in cell:
        key, value = _key(word), word.split("=", 1)[1]
        if key in groups and key not in GLOBAL_GROUPS:
            choices[key] = value
            config[key] = copy.deepcopy(schema.read_choice(key, value))
    for word in cell:
        key = _key(word)
        if key not in groups and not key.startswith("hydra"):
            _put(config, key.split("."), _value(word))
    folder = like.folder.parent / _folder_name(choices, config)
    return Job(tuple(cell), choices, config, folder, in_sweep=True)


def _put(config: dict[str, Any], path: list[str], value: Any) -> None:
    """config has value at path; BadConfig when there is no such key. Shared parts are copied."""
    *parents, last = path
    for name in parents:
        if not isinstance(config.get(name), dict):
            raise BadConfig([f"{'.'.join(path)}: no such key"])
        config[name] = dict(config[name])
        config = config[name]
    if last not in config:
        raise BadConfig([f"{'.'.join(path)}: no such key"])
    config[last] = value


def _key(word: str) -> str:
    return word.split("=", 1)[0].lstrip("+")


@cache
def _value(word: str) -> Any:
    return OverridesParser.create().parse_override(word).value()


def _sweep_name(overrides: list[Any]) -> str:
    """The same command, the same name: what is swept, and a hash of the whole."""
    swept = [
        o.get_key_element().lstrip("+").split(".")[-1] for o in overrides if o.is_sweep_override()
    ]
    lines = sorted(
        o.input_line for o in overrides if not o.key_or_group.startswith(("run.", "hydra"))
    )
    return "-".join((*swept, digest(lines)[:6]))


def _compose(overrides: list[str]) -> DictConfig:
    try:
        return compose("config", overrides=overrides, return_hydra_config=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise BadConfig([unknown_key(error, overrides)]) from error


def _job(config: DictConfig, overrides: Sequence[str], folder: Path, in_sweep: bool = False) -> Job:
    choices = config.hydra.runtime.choices.items()
    chosen = {k: str(v) for k, v in choices if not k.startswith("hydra/")}
    return Job(tuple(overrides), chosen, _plain(config), folder, in_sweep)


def _refuse(jobs: list[Job], alone: bool) -> None:
    """BadConfig when a value is wrong anywhere, or when not one cell makes sense."""
    faults = [line for job in _each_value_once(jobs) for line in schema.faults(job.config)]
    if faults:
        raise BadConfig(faults)
    misfits = [fits.misfits(job.config) for job in jobs]
    if all(misfits):
        raise BadConfig(line for lines in misfits for line in lines)


def _possible_here(plan: Plan) -> Plan:
    """The plan; BadConfig when its jobs are this machine's and it lacks the device."""
    is_elsewhere = plan.multirun and plan.workers is None
    on_gpu = any(job.config["device"] == "cuda" for job in plan.jobs)
    if on_gpu and not is_elsewhere and not cuda_usable():
        raise BadConfig(["device=cuda: torch sees no CUDA GPU here; use device=cpu or auto"])
    return plan


def _each_value_once(jobs: list[Job]) -> Iterable[Job]:
    """A few jobs that together hold every value: a value is right or wrong alone."""
    seen: set[str] = set()
    for job in jobs:
        if not seen.issuperset(job.overrides):
            seen.update(job.overrides)
            yield job
