"""The task's data against what others need: `Task.gives` (tasks/base.py) must name everything that
the net's `reads` and the `needs` of evaluators and benches name."""

from collections.abc import Iterator
from typing import Any

from micro_transformer.config.choices import choices_of, read_choice
from micro_transformer.config.components import find
from micro_transformer.config.schema import LISTS, component
from micro_transformer.wording import _


def unmet(config: dict[str, Any]) -> Iterator[str]:
    """One line per net, evaluator or bench that needs what the task does not give."""
    task = component("task", config)
    for where, group, kind, needs in _needs(config):
        missing = [need for need in needs if need not in task.facts["gives"]]
        if missing:
            yield _(
                "{where}: kind {kind} needs {missing}, which task kind {task} does not give; use "
                "{givers}another {group}",
                where=where,
                kind=kind,
                missing=", ".join(missing),
                task=task.kind,
                givers=_("task={names} or ", names=names) if (names := _givers(needs)) else "",
                group=group,
            )


def read_by(net: dict[str, Any]) -> tuple[str, ...]:
    """What a net reads of a task, some of it by the value of a knob."""
    facts = find("arch", net["kind"]).facts
    by_knob = facts.get("reads_with", {}).items()
    more = (word for knob, words in by_knob for word in words[net[knob]])
    return (*facts.get("reads", ()), *more)


def _needs(config: dict[str, Any]) -> Iterator[tuple[str, str, str, tuple[str, ...]]]:
    """(key, group, kind, needs) of the net and of each measure."""
    net = component("arch", config)
    yield "arch", "arch", net.kind, read_by(config["arch"])
    for group in LISTS:
        for name, entry in config[group]["measures"].items():
            measure = find(group, entry["kind"])
            yield f"{group}.measures.{name}", group, measure.kind, measure.facts.get("needs", ())


def _givers(needs: tuple[str, ...]) -> str:
    """The choices whose task gives all of these."""
    kinds = {name: read_choice("task", name)["kind"] for name in choices_of("task")}
    gives = {name: find("task", kind).facts["gives"] for name, kind in kinds.items()}
    return ", ".join(name for name in gives if {*needs} <= {*gives[name]})
