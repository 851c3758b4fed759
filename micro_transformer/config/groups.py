"""The one table of configuration groups; every other list of groups is derived from it.

A new group is a line of the table, a folder of conf/ and, for components, a home.
"""

from dataclasses import dataclass
from typing import Any

NONE = "none"  # choice of a group that has a neutral content


@dataclass(frozen=True)
class Group:
    """A configuration group: a folder of conf/.

    home: folder of its components; None for a section of plain values. base: their base class.
    trained: trained weights depend on it. named: its choice is part of a job's folder name,
    unless it is neutral.
    is_list: a choice has several components, under `measures`. is_global: a choice sets keys of
    other groups. neutral: content under which the group does nothing; None: it always does.
    """

    home: str | None = None
    base: str = ""
    trained: bool = False
    named: bool = False
    is_list: bool = False
    is_global: bool = False
    neutral: Any = None


GROUPS = {
    "arch": Group("nn/arch", "Net", trained=True),
    "model": Group(trained=True, named=True),
    "posenc": Group("nn/posenc", "PositionalEncoding", trained=True, named=True),
    "pattern": Group("nn/patterns", "Pattern", trained=True),
    "ffn": Group("nn/ffn", "FFN", trained=True),
    "scaling": Group("nn/scaling", "Scaling", neutral={"kind": "NoScaling"}),
    "attention": Group("nn/kernels", "Kernel"),
    "cache": Group("nn/cache", "CacheLayer", named=True),
    "decoding": Group("decoding", "Strategy", named=True),
    "task": Group("tasks", "Task", trained=True),
    "train": Group(trained=True),
    "adapter": Group(
        "nn/adapters", "Adapter", trained=True, named=True, neutral={"kind": "NoAdapter"}
    ),
    "base": Group(neutral={}),  # trained weights depend on what it names: the factor `origin`
    "eval": Group("evals", "Measure", is_list=True),
    "bench": Group("bench", "Measure", is_list=True),
    "option": Group(is_global=True),
    "sweep": Group(is_global=True),
}
COMPONENTS = tuple(name for name, g in GROUPS.items() if g.home and not g.is_list)
LISTS = tuple(name for name, g in GROUPS.items() if g.is_list)
GLOBAL_GROUPS = tuple(name for name, g in GROUPS.items() if g.is_global)
# Groups that trained weights depend on; other groups only affect measurements.
TRAINED_GROUPS = tuple(name for name, g in GROUPS.items() if g.trained)
TRAIN_FACTORS = (*TRAINED_GROUPS, "origin", "seed", "device", "ranks")
# Content of each key under which it does nothing. The origin of weights follows from the base.
NEUTRAL: dict[str, Any] = {
    **{name: g.neutral for name, g in GROUPS.items() if g.neutral is not None},
    "origin": None,
}


def is_neutral(key: str, content: Any) -> bool:
    """Whether a configuration's key does nothing with this content."""
    return key in NEUTRAL and content == NEUTRAL[key]
