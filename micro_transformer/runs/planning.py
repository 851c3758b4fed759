"""Expands a command line into its jobs and checks them all before any runs. Needs no torch."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser

from micro_transformer.config import choices, compatibility, schema
from micro_transformer.config.choices import Unreadable, read_choice
from micro_transformer.config.composing import Composed, composed, folder_name, identity, short_name
from micro_transformer.config.groups import GLOBAL_GROUPS
from micro_transformer.config.overrides import (
    SWEEPING,
    BadConfig,
    Cell,
    Words,
    choices_in,
    expanded,
    parsed,
    split,
)
from micro_transformer.hashing import digest
from micro_transformer.machine import cores, cuda_usable
from micro_transformer.training.ranks import NotStarted, Ranks
from micro_transformer.wording import _, clean

HERE = ("basic", "joblib")  # launchers that the command replaces: it runs `n_jobs` jobs in parallel


@dataclass(frozen=True)
class Job:
    """One cell of a sweep: its overrides, choices, composed configuration and output folder."""

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
    """All jobs of a command line, and how to run them."""

    jobs: list[Job]
    folder: Path
    multirun: bool
    arguments: list[str]
    workers: int | None = 1  # concurrent jobs on this machine; None: they run on other machines
    by_launcher: bool = False  # whether a Hydra launcher starts the jobs, not the command itself


def in_rounds(jobs: list[Job]) -> list[Job]:
    """The jobs in blocks of one seed each, shuffled within each block. If the machine slows down
    over time, this affects whole blocks, which the paired statistics cancel, and does not bias one
    configuration against another."""
    rounds: dict[int, list[Job]] = {}
    for job in jobs:
        rounds.setdefault(job.config["seed"], []).append(job)
    for seed, members in rounds.items():
        random.Random(seed).shuffle(members)
    return [job for members in rounds.values() for job in members]


def make_plan(arguments: Sequence[str] | Words) -> Plan:
    """The plan of a command line. Raises BadConfig, with all errors found, if any job is faulty."""
    words = arguments if isinstance(arguments, Words) else split(arguments)
    try:
        Ranks.started()
        with initialize_config_dir(str(choices.CONF), version_base="1.3", job_name="run"):
            return _possible_here(_planned(words))
    except (NotStarted, Unreadable) as error:
        raise BadConfig([str(error)]) from error


def _planned(words: Words) -> Plan:
    parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
    overrides = parsed(parser, words.texts)
    texts = [override.input_line for override in overrides]
    base = _base(overrides)
    if not (words.has(SWEEPING) or base.sweeps):
        return _single(base, overrides, texts)
    if Ranks.started().size > 1:
        raise BadConfig([_("-m: torchrun starts the ranks of one job; start each job by itself")])
    return _sweep(parsed(parser, base.params) + overrides, texts, base)


def _base(overrides: list[Any]) -> Composed:
    """The composition of the command line with the first value of each override, before the sweep
    is expanded. If that fails in a named sweep, only the group choices are composed: keys that
    exist only in some of its choices are checked per cell."""
    firsts = {next(iter(expanded([override])[0])): override for override in overrides}
    try:
        return composed(list(firsts))
    except BadConfig:
        groups = schema.groups()
        bare = [word for word, o in firsts.items() if o.key_or_group in groups]
        base = composed(bare) if len(bare) < len(firsts) else None
        if base is None or not base.params:
            _explain(overrides)
            raise
        return base


def _single(base: Composed, overrides: list[Any], texts: list[str]) -> Plan:
    swept = [o for o in overrides if o.is_sweep_override()]
    if swept:
        several = _("{word}: several values are a sweep; add -m")
        raise BadConfig([several.format(word=clean(o.input_line)) for o in swept])
    folder = str(base.setting("hydra.run.dir"))
    job = Job(tuple(texts), base.choices, base.config, Path(folder))
    if Ranks.started().size not in (1, job.config["ranks"]):
        raise BadConfig(
            [
                _(
                    "ranks={config}: torchrun started {size}",
                    config=job.config["ranks"],
                    size=Ranks.started().size,
                )
            ]
        )
    _refuse([job], schema.folder_faults("hydra.run.dir", folder))
    return Plan([job], job.folder, False, texts)


def _sweep(overrides: list[Any], texts: list[str], base: Composed) -> Plan:
    is_named = base.setting("run.sweep") is not None
    extra = [] if is_named else [f"run.sweep={_sweep_name(overrides)}"]
    try:
        jobs = _cells(expanded(overrides), extra)
    except BadConfig:
        _explain(overrides)
        raise
    folder = jobs[0].folder.parent
    faults = schema.folder_faults("hydra.sweep.dir", str(base.setting("hydra.sweep.dir")))
    if base.setting("hydra.launcher.n_jobs") == 0:
        faults.append("hydra.launcher.n_jobs=0: must be the jobs at once; -1 is one a core")
    if (batch := base.setting("hydra.sweeper.max_batch_size")) is not None and batch < 1:
        faults.append(f"hydra.sweeper.max_batch_size={batch}: must be 1 or more")
    _refuse(jobs, faults)
    _refuse_clashes(jobs)
    by_launcher = base.launcher not in HERE
    return Plan(jobs, folder, True, [*texts, *extra], _workers(base), by_launcher)


def _workers(base: Composed) -> int | None:
    """Number of concurrent jobs of the launcher on this machine; None if it uses other machines."""
    if base.launcher not in (*HERE, "submitit_local"):
        return None
    asked = base.setting("hydra.launcher.n_jobs") or 1
    return max(1, cores() + 1 + asked) if asked < 0 else asked


def _cells(cells: list[Cell], extra: list[str]) -> list[Job]:
    """All jobs of a sweep. Hydra composes the first; if the others differ from it only by whole
    groups and single values, they are assembled here, a hundred times faster than by Hydra."""
    whole = composed([*cells[0], *extra])
    first = _job(cells[0], whole)
    varied = {w: value for cell in cells for w, value in cell.items() if w not in cells[0]}
    named = folder_name(first.choices, first.config) == first.folder.name
    alone = named and not whole.refers and all(map(_stands_alone, varied, varied.values()))
    if alone and _assembled(first, cells[0]) == first:
        return [first, *(_assembled(first, cell) for cell in cells[1:])]
    return [first, *(_job(cell, composed([*cell, *extra])) for cell in cells[1:])]


def _stands_alone(word: str, value: Any) -> bool:
    """Whether an override changes only its own group or value."""
    key = word.split("=", 1)[0]
    if key in GLOBAL_GROUPS or "/" in key:
        return False
    return key not in schema.groups() or choices.is_whole(key, str(value))


def _job(cell: Cell, whole: Composed) -> Job:
    name = str(whole.setting("hydra.sweep.subdir"))
    if faults := schema.name_faults("hydra.sweep.subdir", name):
        raise BadConfig(faults)
    folder = Path(str(whole.setting("hydra.sweep.dir"))) / name
    return Job(tuple(cell), whole.choices, whole.config, folder, in_sweep=True)


def _assembled(like: Job, cell: Cell) -> Job:
    """The job of a cell, assembled without Hydra from another job of the sweep (`like`) and the
    yaml files of the chosen groups."""
    config, chosen, groups = dict(like.config), dict(like.choices), schema.groups()
    keys = {word: word.split("=", 1)[0] for word in cell}
    for word, value in cell.items():
        if keys[word] in groups and keys[word] not in GLOBAL_GROUPS:
            chosen[keys[word]] = str(value)
            config[keys[word]] = read_choice(keys[word], str(value))
    for word, value in cell.items():
        if keys[word] not in groups and not keys[word].startswith("hydra"):
            _put(config, keys[word].split("."), value)
    folder = like.folder.parent / folder_name(chosen, config)
    return Job(tuple(cell), chosen, config, folder, in_sweep=True)


def _put(config: dict[str, Any], path: list[str], value: Any) -> None:
    """config[path] = value; raises BadConfig if the key does not exist. Nested dicts are copied
    first, since jobs share them."""
    *parents, last = path
    for name in parents:
        if not isinstance(config.get(name), dict):
            raise BadConfig([_("{path}: no such key", path=".".join(path))])
        config[name] = dict(config[name])
        config = config[name]
    if last not in config:
        raise BadConfig([_("{path}: no such key", path=".".join(path))])
    config[last] = value


def _explain(overrides: list[Any]) -> None:
    """Raises BadConfig if an override sets a key that only some choices of a swept group have."""
    groups = schema.groups()
    swept = {
        o.key_or_group: choices_in(o)
        for o in overrides
        if o.is_sweep_override() and o.key_or_group in groups
    }
    lines = []
    for override in overrides:
        group, _dot, knob = override.key_or_group.partition(".")
        having = [c for c in swept.get(group, ()) if _has(read_choice(group, c), knob.split("."))]
        if knob and having and (lacking := [c for c in swept[group] if c not in having]):
            lines.append(
                f"{group}.{knob}: no such key in {group}={','.join(lacking)}; sweep over "
                f"{group}={','.join(having)}, or leave {group}.{knob} out"
            )
    if lines:
        raise BadConfig(lines)


def _has(node: Any, path: Sequence[str]) -> bool:
    return not path or (
        isinstance(node, dict) and path[0] in node and _has(node[path[0]], path[1:])
    )


def _sweep_name(overrides: list[Any]) -> str:
    """Reproducible sweep name: the swept keys and a hash of the overrides but run.* and hydra.*"""
    swept = [o.get_key_element().split(".")[-1] for o in overrides if o.is_sweep_override()]
    lines = sorted(
        o.input_line for o in overrides if not o.key_or_group.startswith(("run.", "hydra"))
    )
    return short_name(swept, digest(lines)[:6])


def _refuse(jobs: list[Job], faults: list[str]) -> None:
    """Raises BadConfig if any value is faulty, or if every job is an invalid combination."""
    if faults := [*faults, *_faults(jobs)]:
        raise BadConfig(faults)
    conflicts = [compatibility.conflicts(job.config) for job in jobs]
    if all(conflicts):
        raise BadConfig(line for lines in conflicts for line in lines)


def _possible_here(plan: Plan) -> Plan:
    """The plan; raises BadConfig if a job that runs on this machine needs CUDA and has none."""
    is_elsewhere = plan.multirun and plan.workers is None
    on_gpu = any(job.config["device"] == "cuda" for job in plan.jobs)
    if on_gpu and not is_elsewhere and not cuda_usable():
        raise BadConfig([_("device=cuda: torch sees no CUDA GPU here; use device=cpu or auto")])
    return plan


def _faults(jobs: list[Job]) -> Iterator[str]:
    """Faults of all jobs. Jobs share most parts of their configuration; each is checked once."""
    seen: set[tuple[str, int]] = set()
    for job in jobs:
        parts = {(key, id(part)) for key, part in job.config.items()}
        if not parts <= seen:
            yield from schema.faults(job.config, [key for key, _ in parts - seen] if seen else ())
        seen |= parts


def _refuse_clashes(jobs: list[Job]) -> None:
    """Raises BadConfig if two jobs would write to the same folder."""
    taken: dict[Path, Job] = {}
    for job in jobs:
        if (other := taken.setdefault(job.folder, job)) is not job:
            words = " ".join(dict.fromkeys((*job.overrides, *other.overrides)))
            said = _("{jobs}: two jobs would write into {folder}; leave one out",
                     jobs=clean(words), folder=job.folder)  # fmt: skip
            raise BadConfig([said])
