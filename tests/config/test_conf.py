"""Every yaml of every group composes, and sets all knobs of its component."""

from types import SimpleNamespace

import pytest
import yaml

from micro_transformer.build import training
from micro_transformer.config import compatibility, components, data_needs, kernel_rules, schema
from micro_transformer.config.groups import LISTS, NONE
from micro_transformer.config.resolve import resolve
from micro_transformer.report import readme
from micro_transformer.runs.planning import make_plan

FILES = sorted(schema.CONF.rglob("*.yaml"))
GROUPS = [g for g in schema.groups() if g not in ("option", "sweep")]
CHOICES = [(g, c) for g in GROUPS for c in schema.choices_of(g)]


def stated(group, choice, fact):
    """What the components of a choice state: of a list of measures, all together."""
    content = schema.read_choice(group, choice)
    nodes = content["measures"].values() if group in LISTS else [content]
    kinds = [components.find(group, node["kind"]) for node in nodes if "kind" in node]
    found = [kind.facts.get(fact, ()) for kind in kinds]
    return {word for each in found for word in (each if isinstance(each, tuple) else [each])}


def read(arch):
    return {*data_needs.read_by(schema.read_choice("arch", arch))}


def trained_on(base):
    """The choice of arch of a base that has its own."""
    return schema.read_choice("base", base).get("arch")


def suited(group, choice):
    """The choice with a task, a net, measures and a base that go with it: the default ones if they
    do."""
    chosen = {**make_plan([]).jobs[0].choices, group: choice}

    def first(other, fits):
        names = [chosen[other], *schema.choices_of(other)]
        return chosen[other] if other == group else next(filter(fits, names))

    needs = stated(group, choice, "needs")
    if group == "arch":
        needs = read(choice)
    elif group == "base":  # a body for a net of its kind
        kind = schema.read_choice("arch", net)["kind"] if (net := trained_on(choice)) else None
        kinds = {c: schema.read_choice("arch", c)["kind"] for c in schema.choices_of("arch")}
        alike = [c for c in kinds if kinds[c] == kind]
        needs = read(alike[0]) if alike else set()
    chosen["task"] = first("task", lambda name: needs <= stated("task", name, "gives"))
    gives = stated("task", chosen["task"], "gives")
    chosen["arch"] = first("arch", lambda name: read(name) <= gives)
    for g in LISTS:
        chosen[g] = first(g, lambda name, g=g: stated(g, name, "needs") <= gives)
    starts = schema.read_choice("train", chosen["train"])["scaling"] != NONE
    starts |= stated("adapter", chosen["adapter"], "needs_base") == {True}
    chosen["base"] = first("base", lambda name: name != NONE or not starts)
    if any(True in stated(g, chosen[g], "of_experts") for g in LISTS):
        chosen["ffn"] = first("ffn", lambda name: True in stated("ffn", name, "has_router"))
    if stated("pattern", chosen["pattern"], "causal") == {False}:  # nothing cached or generated
        chosen |= {"cache": "none", "eval": "score", "bench": "none"}
    names = [group, "task", "arch", "base", "ffn", "cache", *LISTS]
    return [f"{g}={chosen[g]}" for g in dict.fromkeys(names)]


def leaves(node, path=()):
    if isinstance(node, dict):
        for key, value in node.items():
            yield from leaves(value, (*path, key))
    else:
        yield path, node


@pytest.mark.parametrize("path", FILES, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_a_yaml_says_what_it_is_and_asks_for_no_call(path):
    text = path.read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("# @package")]
    assert lines[0].startswith("# ") and len(lines[0]) > 8
    assert "_target_" not in text


@pytest.mark.parametrize("group, choice", CHOICES, ids=lambda v: v)
def test_every_choice_composes_without_a_complaint(group, choice, monkeypatch):
    monkeypatch.setattr(kernel_rules, "is_installed", lambda package: True)
    (job,) = make_plan(suited(group, choice)).jobs
    assert job.choices[group] == choice
    assert job.config[group] == schema.read_choice(group, choice)
    assert not compatibility.conflicts(job.config)


@pytest.mark.parametrize("group", schema.COMPONENTS)
def test_yamls_and_constructors_hold_the_same_knobs(group):
    for choice in schema.choices_of(group):
        content = schema.read_choice(group, choice)
        knobs = components.find(group, content.pop("kind")).knobs
        assert set(content) == set(knobs), choice


@pytest.mark.parametrize("group, choice", CHOICES, ids=lambda v: v)
def test_a_choice_states_only_what_differs_from_its_parent(group, choice):
    own = yaml.safe_load((schema.CONF / group / f"{choice}.yaml").read_text())
    for parent in own.pop("defaults", []):
        inherited = dict(leaves(schema.read_choice(group, parent)))
        repeated = [path for path, value in leaves(own) if inherited.get(path, ...) == value]
        assert not repeated


def test_a_new_knob_of_a_recipe_is_one_edit():
    """All recipes and sizes but one name the choice that they differ from."""
    for group in ("model", "train", "decoding"):
        texts = [path.read_text() for path in (schema.CONF / group).glob("*.yaml")]
        kinds = {yaml.safe_load(text).get("kind") for text in texts if "defaults:" not in text}
        assert len([text for text in texts if "defaults:" not in text]) == len(kinds)


@pytest.mark.parametrize("option", schema.choices_of("option"))
def test_numbers_of_an_option_survive_composition(option):
    content = yaml.safe_load((schema.CONF / "option" / f"{option}.yaml").read_text())
    content.pop("defaults", None)
    (job,) = make_plan([f"option={option}"]).jobs
    for path, value in leaves(content):
        node = job.config
        for key in path:
            node = node[key]
        assert node == value, path


@pytest.mark.parametrize("sweep", schema.choices_of("sweep"))
def test_a_named_sweep_has_jobs_and_states_its_price(sweep):
    plan = make_plan([f"sweep={sweep}"])
    if sweep == "none":
        assert not plan.multirun
        return
    text = (schema.CONF / "sweep" / f"{sweep}.yaml").read_text()
    assert plan.multirun and len(plan.jobs) > 1
    assert f"python run.py sweep={sweep}" in text and "minute" in text


def test_the_words_none_on_and_off_stay_words():
    """YAML reads some unquoted words as booleans; a choice must not become one."""
    (job,) = make_plan(["posenc=none", "cache=none"]).jobs
    assert job.choices["posenc"] == "none" and job.config["cache"]["kind"] == "NoCache"


@pytest.mark.parametrize("name", [c for c in schema.choices_of("model") if c.endswith("m")])
def test_a_size_is_what_its_name_says(name):
    """Total parameters of the character-level decoder with GELU are within 5 % of the name's."""
    (job,) = make_plan([f"model={name}", "ffn=gelu", "device=cpu"]).jobs
    net = training.build_model(resolve(job.config), SimpleNamespace(vocab_size=70, num_outputs=70))
    count = sum(p.numel() for p in net.parameters())
    assert count == pytest.approx(int(name[:-1]) * 1e6, rel=0.05)


@pytest.mark.parametrize("name", ["README.md", "README.es.md"])
def test_the_readme_names_parts_that_exist(name: str) -> None:
    """Every folder of conf but arch, which an option sets, and no choice that is gone. One that is
    new may still lack: a component is two files, and `make readme` adds its name."""
    text = (schema.CONF.parent / name).read_text(encoding="utf-8")
    rows = {row[1]: row[2].split() for row in readme.PARTS.findall(text)}
    assert sorted(rows) == sorted(set(schema.groups()) - {"arch"})
    assert all(set(named) <= set(schema.choices_of(group)) for group, named in rows.items())


def test_make_readme_names_what_is_new_and_drops_what_is_gone() -> None:
    kept, *rest = schema.choices_of("pattern")
    row = f"| `pattern` | gone {kept} | yes |"
    assert readme.with_every_choice(row) == f"| `pattern` | {' '.join([kept, *rest])} | yes |"
