"""What a task gives is what its net reads and its evaluators and benches need, or the configuration
is invalid."""

import ast

import pytest

from micro_transformer.config import compatibility, components
from micro_transformer.config.schema import LISTS, choices_of, read_choice
from micro_transformer.runs.planning import make_plan


def stated(group, fact):
    """Words that the components of a group state."""
    known = components.catalog(group).values()
    return {word for component in known for word in component.facts.get(fact, ())}


def test_what_is_needed_is_given_by_some_task():
    gives = stated("task", "gives")
    assert stated("eval", "needs") | stated("bench", "needs") | stated("arch", "reads") <= gives


@pytest.mark.parametrize("group, fact", [("task", "gives"), ("arch", "reads")])
def test_every_task_says_what_it_gives_and_every_net_what_it_reads(group, fact):
    assert all(component.facts.get(fact) for component in components.catalog(group).values())


MEASURES = [(g, c) for g in LISTS for c in choices_of(g) if read_choice(g, c)["measures"]]


@pytest.mark.parametrize("group, choice", MEASURES)
def test_what_a_task_does_not_give_is_refused_in_one_line(group, choice, monkeypatch):
    """For the net and each measure; the line names both, what is missing and the cure."""
    facts = {"gives": (), "splits": "train val test"}
    toy = components.Component("task", "Toy", "toy", facts=facts)
    monkeypatch.setitem(components.catalog("task"), "Toy", toy)
    (job,) = make_plan([]).jobs
    config = job.config | {group: read_choice(group, choice), "task": {"kind": "Toy"}}
    said = compatibility.conflicts(config)
    asked = {f"{group}.measures.{n}": (group, e) for n, e in config[group]["measures"].items()}
    for where, (home, entry) in {**asked, "arch": ("arch", config["arch"])}.items():
        facts = components.find(home, entry["kind"]).facts
        needs = facts.get("reads" if home == "arch" else "needs", ())
        lines = [line for line in said if line.startswith(f"{where}: kind {entry['kind']} needs ")]
        assert len(lines) == bool(needs)
        cure = (f"{', '.join(needs)}, which task kind Toy ", f" or another {home}")
        assert all(words in line for line in lines for words in cure)


def test_only_the_module_of_a_task_names_it():
    """The trainer, evaluators and benches know the base classes alone."""
    concrete = {task.module for task in components.catalog("task").values()}
    for path in sorted(components.PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            assert not concrete & set(names), path
