"""Every evaluator that a yaml names gives numbers, the same again, and leaves the net alone."""

import json
import math

import pytest
import torch

from micro_transformer.config.components import find
from micro_transformer.config.schema import choices_of, read_choice
from micro_transformer.evals.heads import Heads
from micro_transformer.evals.samples import Samples
from tests.evals.subjects import subject_for, tiny_subject

SMALL = {"num": 2, "length": 12, "prompt_len": 4, "context": 16, "map_len": 8}
SMALL |= {"window": 64, "windows": 2, "shortest": 8, "doublings": 2, "texts": 2, "sequences": 2}
SMALL |= {"kept": 100, "shown": 3}
ENTRIES = {
    f"{choice}.{name}": entry
    for choice in choices_of("eval")
    for name, entry in read_choice("eval", choice)["measures"].items()
}


def make(entry):
    knobs = {k: SMALL.get(k, v) for k, v in entry.items() if k != "kind"}
    return find("eval", entry["kind"]).load()(**knobs)


@pytest.mark.parametrize("name", ENTRIES)
def test_an_evaluator_repeats_itself_and_leaves_net_and_random_state_alone(name, tmp_path):
    subject = subject_for("eval", ENTRIES[name]["kind"], tmp_path)
    weights = {k: v.clone() for k, v in subject.model.state_dict().items()}
    state = torch.get_rng_state()
    first = dict(make(ENTRIES[name]).run(subject))
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(99)
    assert dict(make(ENTRIES[name]).run(subject)) == first
    assert first and all(v is None or math.isfinite(v) for v in first.values())
    assert all(torch.equal(v, weights[k]) for k, v in subject.model.state_dict().items())
    assert not subject.model.training


def test_loss_is_that_of_the_task(tmp_path):
    subject = tiny_subject(tmp_path)
    found = dict(make({"kind": "Loss", "split": "val"}).run(subject))
    loss = subject.task.score(subject.model, "val")["loss"]
    assert found["val/loss"] == loss and found["val/ppl"] == pytest.approx(math.exp(loss))


def test_samples_start_from_different_stated_prompts(tmp_path):
    subject = tiny_subject(tmp_path)
    list(Samples(num=3, length=20, prompt_len=7).run(subject))
    page = (tmp_path / "samples.txt").read_text()
    heads = [line for line in page.splitlines() if line.startswith("=== sample")]
    assert len(set(heads)) == 3
    for head, block in zip(heads, page.split("=== sample")[1:], strict=True):
        prompt = json.loads(head.split("prompt ", 1)[1])
        text = block.split("\n", 1)[1].rstrip("\n")
        assert text.startswith(prompt) and len(prompt) == 7 and len(text) >= 20


@pytest.mark.parametrize(
    ("evaluator", "knob"),
    [
        (Heads(num=2, context=9999, map_len=8), "context"),
        (Samples(num=2, length=3, prompt_len=9999), "prompt_len"),
    ],
)
def test_an_excerpt_longer_than_the_text_names_its_knob(evaluator, knob, tmp_path):
    with pytest.raises(ValueError, match=f"^{knob}=9999: the text has only 2400 tokens") as caught:
        list(evaluator.run(tiny_subject(tmp_path)))
    assert "\n" not in str(caught.value)


def test_heads_are_counted_once_and_drawn(tmp_path):
    subject = tiny_subject(tmp_path)
    found = dict(Heads(num=2, context=16, map_len=8).run(subject))
    counts = [v for k, v in found.items() if k.startswith("attention/heads/")]
    assert sum(counts) == 4
    assert all(0 <= found[f"attention/entropy/{layer}"] <= 1 for layer in (0, 1))
    page = json.loads((tmp_path / "attention.json").read_text())
    maps = torch.tensor(page["maps"])
    assert maps.shape == (2, 2, 8, 8) and len(page["map_text"]) == 8
    assert torch.allclose(maps.sum(-1), torch.ones(2, 2, 8), atol=1e-3)
    assert not maps.triu(1).any()
    assert all(sum(bins) == pytest.approx(1, abs=1e-2) for bins in page["histogram"])
