"""Every knob of every yaml survives a smoke run: each boolean both ways, each number at another
value, each literal once. What shapes weights is trained for two steps with a checkpoint, stored and
loaded again; what measures is run on one stored net.

Left out: the tasks whose texts must be fetched, what starts from a base
(tests/runs/test_extend.py, tests/runs/test_adapters.py) and how a command runs (`run`, `store`,
`data`: tests/commands/test_app.py).
"""

import copy
import math
import typing
from functools import cache

import pytest
import torch

from micro_transformer.build import training
from micro_transformer.config import compatibility, components, data_needs, kernel_rules, schema
from micro_transformer.config.groups import COMPONENTS, LISTS, TRAINED_GROUPS
from micro_transformer.config.resolve import resolve
from micro_transformer.data.build_dataset import prepare
from micro_transformer.data.corpora.catalog import corpus
from micro_transformer.hashing import digest
from micro_transformer.runs import trained_net, worker
from micro_transformer.runs.planning import make_plan
from micro_transformer.seeds import make_deterministic
from micro_transformer.store.checkpoints import Entry
from micro_transformer.training.trainer import Trainer

WORDS = ["task=micro", "task.stories=60", "task.window=32", "model=tiny", "model.d_model=16"]
WORDS += ["model.max_len=64", "train=smoke", "train.steps=2", "train.batch_size=2"]
WORDS += ["train.context=16", "train.warmup_steps=1", "train.checkpoint_every=1"]
WORDS += ["train.threads=1", "bench.threads=1", "device=cpu", "eval=none", "bench=none"]
# Lengths of the yamls in the place of which these will do, where a knob of that name is not tried.
SHORT = {"window": 16, "block": 4, "group": 2, "residual": 4, "sinks": 2, "hot": 1, "prompt_len": 4}
SHORT |= {"new_tokens": 8, "length": 8, "segment": 4, "decode_tokens": 4, "lengths": [8, 16]}
SHORT |= {"num": 2, "context": 16, "map_len": 8, "edges": [4, 8], "windows": 2, "shortest": 8}
SHORT |= {"doublings": 1, "texts": 2, "sequences": 2, "queries": 2, "batch_size": 2, "steps": 2}
SHORT |= {
    "train_steps": 1,
    "repeats": 2,
    "recompute_steps": 1,
    "warmup": 1,
    "sentence": " the ",
    "letters": 3,
    "pairs": 4,
    "spare": 4,
    "start": 16,
    "grow_every": 1,
    "kept": 50,
    "shown": 3,
}
TRAINED = [group for group in TRAINED_GROUPS if group != "adapter"]
MEASURED = [*COMPONENTS, *LISTS, "budget"]
MEASURED = [group for group in MEASURED if group not in TRAINED_GROUPS]
ELSEWHERE = {"train": {"scaling"}, "decoding": {"coverage_penalty"}}  # it needs a source


@cache
def base_config():
    return make_plan(WORDS).jobs[0].config


def is_offline(kind):
    """Whether a task or its corpus generates the data, so that nothing is fetched."""
    name = components.find("task", kind).facts["corpus"]
    return name is None or {o.tier for o in corpus(name, {}).origins()} == {"grammar"}


def fact(group, kind, name):
    return set(components.find(group, kind).facts.get(name, ()))


def suited(config, group, node):
    """The configuration with a task that gives what the node needs and a net that reads it."""
    wanted = fact(group, node["kind"], "needs")
    if group == "arch":
        wanted = {*data_needs.read_by(node)}
    tasks = [config["task"], *(schema.read_choice("task", c) for c in schema.choices_of("task"))]
    tasks = [node] if group == "task" else sorted(tasks, key=lambda t: not is_offline(t["kind"]))
    task = next(t for t in tasks if wanted <= fact("task", t["kind"], "gives"))
    nets = [config["arch"], *(schema.read_choice("arch", c) for c in schema.choices_of("arch"))]
    nets = [node] if group == "arch" else nets
    given = fact("task", task["kind"], "gives")
    net = next(n for n in nets if {*data_needs.read_by(n)} <= given)
    if task is not config["task"] and group != "task":
        task = short(task, knobs_of("task", task["kind"]))
    ffns = [config["ffn"], *(schema.read_choice("ffn", c) for c in schema.choices_of("ffn"))]
    if components.find(group, node["kind"]).facts.get("of_experts"):
        ffns = [f for f in ffns if components.find("ffn", f["kind"]).facts.get("has_router")]
    return {**config, "task": task, "arch": net, "ffn": ffns[0]}


def contents(group):
    """(choice, name of a measure, content, knobs) of each kind in the group, once."""
    if group == "budget":
        yield group, None, base_config()[group], knobs_of(group, None)
        return
    seen = set()
    for choice in schema.choices_of(group):
        whole = schema.read_choice(group, choice)
        nodes = whole["measures"] if group in LISTS else {None: whole}
        for name, node in nodes.items():
            kind = node.get("kind")
            if kind not in seen and (group != "task" or is_offline(kind)):
                yield choice, name, node, knobs_of(group, kind)
                seen.add(kind)


def knobs_of(group, kind):
    if kind is not None:
        return components.find(group, kind).knobs
    return typing.get_type_hints(schema.SECTIONS[group], include_extras=True)


def others(value, annotation):
    """Lists of other valid values of the knob; one value of each list is to be tested."""
    for option in components._options(annotation):
        if option in (None, type(None)):
            candidates = [[None]]
        elif typing.get_origin(option) is typing.Literal:
            candidates = [[name] for name in typing.get_args(option)]
        elif option is bool:
            candidates = [[False], [True]]
        elif option is str:
            candidates = [[f"{value} "]]
        elif typing.get_origin(option) is list:
            candidates = [[[number(v)[0] for v in value]]]
        else:
            candidates = [number(value)]
        for each in candidates:
            fitting = [c for c in each if c != value and not components.complaint(c, option)]
            if fitting:
                yield fitting


def number(value):
    """Numbers near a value; those of the same type (int or float) come first."""
    if isinstance(value, int) and not isinstance(value, bool):
        return [2 * value, value + 1, value // 2, value - 1]
    return [0.75 * value, 2 * value, value + 0.25] if isinstance(value, float) else [1, 0.5]


def cases(groups):
    """(group, name of a measure, the content around the knob, knob, candidates)."""
    for group in groups:
        for choice, name, node, knobs in contents(group):
            if group in LISTS:
                changed = short(node, knobs)
                yield pytest.param(group, name, changed, "kind", [node["kind"]], id=node["kind"])
                knobs = {k: each for k, each in knobs.items() if k not in SHORT}
                node = changed
            elif "kind" not in node:
                node = base_config()[group]
            elif node["kind"] == base_config()[group]["kind"]:
                node = {**node, **base_config()[group]}
            for knob in (k for k in knobs if k not in ELSEWHERE.get(group, ())):
                for candidates in others(node[knob], allowed(group, knob, knobs[knob])):
                    label = f"{group}.{name or choice}.{knob}={candidates[0]}"
                    yield pytest.param(group, name, node, knob, candidates, id=label)


def allowed(group, knob, annotation):
    """The types and values that a knob may have; for names of choices, all of them."""
    names = schema.NAMES.get(knob) if group == "train" else None
    return typing.Literal[tuple(schema.choices_of(names))] if names else annotation


def short(node, knobs):
    """The content with every number replaced by another one that is small enough for a test."""
    changed = {**node, **{knob: SHORT[knob] for knob in node.keys() & SHORT.keys()}}
    for knob, value in node.items():
        if isinstance(value, int | float | list) and changed[knob] == value:
            smaller = [[number(v)[-2] for v in value]] if isinstance(value, list) else number(value)
            fitting = [v for v in reversed(smaller) if not components.complaint(v, knobs[knob])]
            changed[knob] = next(v for v in fitting if v != value)
    return changed


def configured(group, name, node, knob, candidates, root):
    """The resolved configuration in which the knob has the first of the candidates that fits; None
    when a literal is refused in a line that names it."""
    said = []
    for value in candidates:
        config = copy.deepcopy(base_config()) | {"data": {"dir": str(root)}}
        if group in ("task", "arch", *LISTS):
            config = suited(config, group, {**node, knob: value})
        if group in LISTS:
            config[group]["measures"] = {name: {**node, knob: value}}
        else:
            config[group] = {**node, knob: value}
        said = schema.faults(config) + compatibility.conflicts(config)
        if not said:
            return resolve(config)
    assert isinstance(value, str) and f"{knob}={value}" in said[0], said
    return None


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


def trained(config, entry):
    """The training of the configuration is stored in the entry."""
    if name := components.find("task", config["task"]["kind"]).facts["corpus"]:
        prepare(corpus(name, config["task"]), config["data"]["dir"], tier="grammar")
    make_deterministic(config["train"]["threads"])
    task = training.build_task(config)
    trainer = Trainer(
        training.build_model(config, task),
        task,
        training.recipe(config),
        seed=config["seed"],
        device="cpu",
        entry=entry,
    )
    return trainer.run()


def opened(root, config):
    """The entry of a training that depends on the configuration alone."""
    factors = {"config": config, "code": {}, "data": "drawn"}
    entry = Entry(root, digest(factors))
    entry.open(factors)
    return entry


@pytest.mark.parametrize("group, name, node, knob, candidates", list(cases(TRAINED)))
def test_a_net_of_any_knobs_is_trained_stored_and_loaded(
    root, tmp_path, monkeypatch, group, name, node, knob, candidates
):
    monkeypatch.setattr(torch, "compile", lambda model: model)  # a compiler takes half a minute
    config = configured(group, name, node, knob, candidates, root)
    if config is None:
        return
    entry = opened(tmp_path, config)
    progress = trained(config, entry)
    assert progress.step == config["train"]["steps"] and math.isfinite(progress.best)
    begun, state = trained_net.load(config, entry, training.build_task(config))
    assert state["progress"]["step"] == progress.step
    assert all(p.isfinite().all() for p in begun.net.parameters())


@pytest.fixture(scope="module")
def stored(root, tmp_path_factory):
    """(configuration) -> the entry of a training of its task and net, made when first needed."""
    found = {}

    def entry_of(config):
        kind = config["task"]["kind"], config["ffn"]["kind"]
        if kind not in found:
            plain = copy.deepcopy(base_config()) | {"data": {"dir": str(root)}}
            config = resolve({**plain, **{g: config[g] for g in ("task", "arch", "ffn")}})
            found[kind] = opened(tmp_path_factory.mktemp("store"), config)
            trained(config, found[kind])
        return found[kind]

    return entry_of


@pytest.mark.parametrize("group, name, node, knob, candidates", list(cases(MEASURED)))
def test_a_net_is_measured_whatever_the_knob(
    stored, root, tmp_path, group, name, node, knob, candidates, monkeypatch
):
    """A benchmark is run itself; a decoding knob is tested by generating samples."""
    monkeypatch.setattr(kernel_rules, "is_installed", lambda package: True)
    config = configured(group, name, node, knob, candidates, root)
    if config is None:
        return
    if group not in LISTS:
        samples = schema.read_choice("eval", "quality")["measures"]["samples"]
        samples = short(samples, knobs_of("eval", samples["kind"]))
        config["eval"] = {"measures": {"samples": samples}}
    found = worker.measure(config, stored(config), tmp_path, ("eval", "bench"))
    figures = {**found.metrics, **found.cost}
    assert all(value is None or math.isfinite(value) for value in figures.values())
