"""What a configuration must be: types and ranges. Knows no torch.

`faults` returns every complaint as one line: key=value, the rule, the cure. Knobs of
components are checked against their constructors (`components.py`), the rest against the
dataclasses here.
"""

import copy
import re
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml

from micro_transformer.components import Component, complaint, find
from micro_transformer.knobs import Count, NonNegative, Positive, Probability, Rate, Size

CONF = Path(__file__).resolve().parents[1] / "conf"


@dataclass(frozen=True)
class Model:
    """conf/model: the net's size and the knobs of its blocks."""

    d_model: Count
    num_layers: Count
    num_heads: Count
    ffn_ratio: Positive
    max_len: Count
    norm: Literal["layer", "rms"]
    norm_gain: bool
    qk_norm: bool
    key_shift: bool
    bias: bool
    embedding_norm: bool
    tied_embeddings: bool
    zero_init: bool


@dataclass(frozen=True)
class Train:
    """conf/train: a recipe. Every field is part of the identity of trained weights."""

    base: str | None  # a recipe whose weights this one starts from; None: fresh weights
    scaling: str  # how RoPE is stretched from the base's context to this one's
    steps: Count
    batch_size: Count
    context: Count
    accumulate: Count
    optimizer: Literal["adamw", "muon"]
    lr: Positive
    matrix_lr: Positive
    betas: list[Rate]
    weight_decay: NonNegative
    warmup_steps: Size
    decay: Literal["cosine", "linear"]
    decay_from: Rate
    min_lr_ratio: Probability
    clip: Positive | None
    label_smoothing: Rate
    dropout: Rate
    precision: Literal["auto", "fp32", "bf16", "fp16"]
    matrix_dtype: Literal["auto", "fp32", "bf16"]  # of Muon's Newton-Schulz
    kernel: str
    threads: Count | Literal["auto"]
    grad_checkpointing: bool
    compile: bool
    eval_every: Count
    patience: Count | None
    checkpoint_every: Count


@dataclass(frozen=True)
class Run:
    """conf/config.yaml `run`: how to run; never part of an identity."""

    sweep: str | None
    force: bool
    plan: bool
    bench: Literal["beside", "alone"]
    trace: bool
    show_samples: Size
    timeout_s: Positive | None


@dataclass(frozen=True)
class Store:
    """Where trained models lie."""

    dir: str


@dataclass(frozen=True)
class Budget:
    """Limits that end a job with a recorded `oom`."""

    kv_mb: Positive | None


@dataclass(frozen=True)
class Data:
    """Where prepared data lie."""

    dir: str


SECTIONS = {
    "model": Model, "train": Train, "budget": Budget, "run": Run, "store": Store, "data": Data,
}  # fmt: skip
COMPONENTS = (
    "arch", "posenc", "pattern", "ffn", "scaling", "attention", "cache", "decoding", "task",
)  # fmt: skip
LISTS = ("eval", "bench")
SCALARS: dict[str, Any] = {
    "seed": Size,
    "ranks": Count,
    "device": Literal["auto", "cpu", "cuda"],
    "check": bool,
}
# What trained weights depend on; everything else is measured on the same weights.
TRAINED_GROUPS = ("arch", "model", "posenc", "pattern", "ffn", "task", "train")
TRAIN_FACTORS = (*TRAINED_GROUPS, "origin", "seed", "device", "ranks")
# Knobs of a recipe that name a file of conf/<group>.
NAMES = {"base": "train", "scaling": "scaling", "kernel": "attention"}
NO_SCALING = "NoScaling"
WITHOUT_IDENTITY = ("run", "store", "data", "check")


def faults(config: dict[str, Any]) -> list[str]:
    """Every key and value that can be in no configuration, one line each."""
    complaints = [*_strays(config), *_targets(config)]
    for name, kind in SCALARS.items():
        complaints += _value(name, config.get(name), kind)
    for name, section in SECTIONS.items():
        fields = typing.get_type_hints(section, include_extras=True)
        complaints += _section(name, config.get(name), fields)
    complaints += _names(config.get("train"))
    complaints += _sweep_name(config.get("run"))
    for group in COMPONENTS:
        complaints += _component(group, group, config.get(group))
    for group in LISTS:
        complaints += _measures(group, config.get(group))
    return complaints


def component(group: str, config: dict[str, Any]) -> Component:
    """The component that a checked configuration names for a group."""
    return find(group, config[group]["kind"])


def choices_of(group: str) -> list[str]:
    """The choices of a configuration group: the files in its folder."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def groups() -> list[str]:
    """Every configuration group."""
    return sorted(path.name for path in CONF.iterdir() if path.is_dir())


def origin(train: dict[str, Any]) -> dict[str, Any] | None:
    """What a recipe starts from: the base's recipe as its file has it, and the scaling that takes
    the base's context to this one's. None: from fresh weights."""
    if train["base"] is None:
        return None
    base, scaling = read_choice("train", train["base"]), read_choice("scaling", train["scaling"])
    if "factor" in scaling:
        scaling["factor"] = train["context"] / base["context"]
    return {"train": base, "scaling": scaling}


def _strays(config: dict[str, Any]) -> list[str]:
    known = {*SCALARS, *SECTIONS, *COMPONENTS, *LISTS}
    return [
        f"{key}: no such key; the keys are {', '.join(sorted(known))}"
        for key in config
        if key not in known
    ]


def _targets(node: Any, path: str = "") -> Iterator[str]:
    """A configuration is data: anything that asks to be called is refused."""
    if isinstance(node, dict):
        for key, value in node.items():
            where = f"{path}.{key}" if path else str(key)
            if str(key).startswith("_"):
                yield f"{where}: a configuration holds data, never code; remove the key"
            yield from _targets(value, where)
    elif isinstance(node, list):
        for i, value in enumerate(node):
            yield from _targets(value, f"{path}.{i}")


def _names(train: Any) -> Iterator[str]:
    """A recipe names other files by their choice."""
    for knob, group in NAMES.items():
        name = train.get(knob) if isinstance(train, dict) else None
        if isinstance(name, str) and name not in choices_of(group):
            known = ", ".join(choices_of(group))
            yield f"train.{knob}={_short(name)}: must be one of {known}"


def _sweep_name(run: Any) -> list[str]:
    """A sweep's name is a folder's: it must not lead elsewhere."""
    name = run.get("sweep") if isinstance(run, dict) else None
    if not isinstance(name, str) or re.fullmatch(r"\w[\w.,-]{0,99}", name):
        return []
    return [f"run.sweep={_short(name)}: must be a plain name of letters, digits, . _ - and ,"]


def _value(key: str, value: Any, annotation: Any) -> list[str]:
    rule = complaint(value, annotation)
    return [f"{key}={_short(value)}: must be {rule}"] if rule else []


def _short(value: Any) -> str:
    text = "null" if value is None else str(value)
    text = "".join(c if c.isprintable() else "?" for c in text)
    return text if len(text) <= 60 else text[:57] + "..."


def _section(name: str, value: Any, fields: dict[str, Any]) -> list[str]:
    if not isinstance(value, dict):
        return [f"{name}={_short(value)}: must be a mapping with {', '.join(fields)}"]
    complaints = [
        f"{name}.{key}: no such knob; {name} has {', '.join(sorted(fields)) or 'none'}"
        for key in value
        if key not in fields
    ]
    for key, annotation in fields.items():
        if key in value:
            complaints += _value(f"{name}.{key}", value[key], annotation)
        else:
            complaints.append(f"{name}.{key}: missing; the yaml must write every knob")
    return complaints


def _component(group: str, where: str, value: Any) -> list[str]:
    if not isinstance(value, dict) or not isinstance(value.get("kind"), str):
        return [f"{where}={_short(value)}: must be a mapping with a `kind`"]
    try:
        knobs = find(group, value["kind"]).knobs
    except ValueError as error:
        return [str(error)]
    return _section(where, {k: v for k, v in value.items() if k != "kind"}, knobs)


def _measures(group: str, value: Any) -> list[str]:
    fields: dict[str, Any] = {"threads": Count | Literal["auto"]} if group == "bench" else {}
    if not isinstance(value, dict) or not isinstance(value.get("measures"), dict):
        return [f"{group}={_short(value)}: must be a mapping with `measures`"]
    rest = {k: v for k, v in value.items() if k != "measures"}
    complaints = _section(group, rest, fields)
    for name, entry in value["measures"].items():
        complaints += _component(group, f"{group}.measures.{name}", entry)
    return complaints


def read_choice(group: str, choice: str) -> dict[str, Any]:
    """The content of conf/<group>/<choice>.yaml."""
    return copy.deepcopy(_parsed(CONF / group / f"{choice}.yaml"))


@cache
def _parsed(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text(encoding="utf-8"))
