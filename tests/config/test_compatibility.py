"""Knobs against the data: excerpts longer than their split are rejected before any training."""

import copy
from typing import Any

import pytest

from micro_transformer.config import excerpts, kernel_rules, schema
from micro_transformer.config.compatibility import conflicts
from micro_transformer.config.components import find
from micro_transformer.config.overrides import BadConfig
from micro_transformer.data.configured import split_lengths
from micro_transformer.runs.planning import make_plan

TOKENS = {"train": 500, "val": 60}


def config_with(group: str, kind: str, **knobs: Any) -> dict[str, Any]:
    """The default configuration with a single measure and a short training context."""
    config = copy.deepcopy(CONFIG)
    config[group]["measures"] = {"one": {"kind": kind, **knobs}}
    return config


CONFIG = make_plan(["device=cpu", "train.threads=1", "train.context=32"]).jobs[0].config
MEASURES = {
    entry["kind"]: (group, entry)
    for group in schema.LISTS
    for choice in schema.choices_of(group)
    for entry in schema.read_choice(group, choice)["measures"].values()
}
READERS = [kind for kind, (group, _) in MEASURES.items() if find(group, kind).facts.get("excerpt")]


@pytest.mark.parametrize("kind", READERS)
def test_an_excerpt_longer_than_its_split_names_knob_split_and_tokens(kind: str) -> None:
    group, entry = MEASURES[kind]
    facts = find(group, kind).facts
    knob, split = facts["excerpt"], facts["excerpt_of"]
    longest = TOKENS[split] - (split == "train")  # a target follows the last input
    knobs = {k: v for k, v in entry.items() if k != "kind"}
    fitting = config_with(group, kind, **{**knobs, knob: longest})
    assert excerpts.beyond_the_text(fitting, TOKENS) == []
    (line,) = excerpts.beyond_the_text(
        config_with(group, kind, **{**knobs, knob: longest + 1}), TOKENS
    )
    assert line.startswith(f"{group}.measures.one.{knob}={longest + 1}: the {split} split has only")
    assert str(TOKENS[split]) in line and "\n" not in line


def test_the_evaluators_that_failed_on_short_texts_are_among_them() -> None:
    assert {"Heads", "Samples", "TrainingStep", "Profile"} <= set(READERS)


def test_a_recipe_longer_than_the_text_and_a_split_that_is_not_there_are_told() -> None:
    config = config_with("eval", "Loss", split="test")
    config["train"]["context"] = 500
    lines = excerpts.beyond_the_text(config, TOKENS)
    assert [line.split(":")[0] for line in lines] == [
        "train.context=500", "eval.measures.one.split=test",
    ]  # fmt: skip
    assert excerpts.beyond_the_text(config, {}) == []


@pytest.mark.parametrize("cache", schema.choices_of("cache"))
@pytest.mark.parametrize("attention", schema.choices_of("attention"))
def test_a_kernel_that_would_run_as_another_over_segments_is_invalid(
    attention: str, cache: str
) -> None:
    chosen = {"attention": attention, "cache": cache}
    choices = {group: schema.read_choice(group, name) for group, name in chosen.items()}
    kernel, store = (find(group, choice["kind"]) for group, choice in choices.items())
    lines = [line for line in conflicts({**CONFIG, **choices}) if "segments" in line]
    invalid = store.facts["segmented"] and not kernel.facts["takes_segments"]
    assert len(lines) == invalid
    assert all(kernel.kind in line and store.kind in line for line in lines)


def test_lengths_are_those_of_the_prepared_text(micro_data: Any) -> None:
    config = (
        make_plan(["task=micro", "task.stories=300", f"data.dir={micro_data}", "device=cpu"])
        .jobs[0]
        .config
    )
    lengths = split_lengths(config)
    assert set(lengths) >= {"train", "val"} and all(n > 100 for n in lengths.values())
    recall = make_plan(["task=recall", "train=recall", "eval=recall", "device=cpu"]).jobs[0].config
    assert split_lengths(recall) == {}


@pytest.mark.parametrize("words, said", [
    (["attention=flash"], "attention kind Flash: needs the package flash_attn, which"),
    (["train.kernel=flash"], "train.kernel=flash: needs the package flash_attn"),
    (["train.kernel=flex"], "train.kernel=flex: has no backward pass on a CPU; use auto"),
    (["decoding=beam", "decoding.coverage_penalty=0.2"],
     "decoding.coverage_penalty=0.2: arch kind DecoderLM reads no source; use 0 or option=B"),
    (["option=B", "decoding.guidance_scale=2"],
     "decoding.guidance_scale=2: arch kind EncoderDecoder was never trained without a source; "
     "use 1, or train with arch.source_dropout=0.1"),
])  # fmt: skip
def test_what_cannot_run_here_is_told_before_it_runs(
    words: list[str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel_rules, "is_installed", lambda package: False)
    with pytest.raises(BadConfig) as refused:
        make_plan(["device=cpu", *words])
    (line,) = refused.value.lines
    assert line.startswith(said)
    monkeypatch.setenv("CXX", "no-compiler")
    with pytest.raises(BadConfig, match="no C.. compiler no-compiler; install one, or use sdpa"):
        make_plan(["device=cpu", "attention=flex"])
    monkeypatch.setenv("CXX", "sh")  # one that is there
    make_plan(["device=cpu", "attention=flex", "decoding=beam", "decoding.guidance_scale=2"])
    make_plan(["option=B", "decoding.guidance_scale=2", "arch.source_dropout=0.1"])
