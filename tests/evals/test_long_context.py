"""Losses by position and under growing context, against loops over single tokens in float64."""

import copy
import logging
import math
import os
from dataclasses import replace

import pytest
import torch

from micro_transformer.data.build_dataset import prepare
from micro_transformer.data.corpora.regenta import Regenta
from micro_transformer.data.sources import FOLDER_VARIABLE
from micro_transformer.evals import windows
from micro_transformer.evals.loss_by_context import LossByContext
from micro_transformer.evals.perplexity_by_position import PerplexityByPosition
from tests.evals.subjects import run, tiny_subject

POSENCS = ["rope", "alibi", "sinusoidal", "learned", "none"]


def tokens_of(subject):
    return subject.task.data.tokens("val").tolist()


def loss_after(subject, text, target):
    """-log p of target after text, from a forward of its own in float64."""
    model = copy.deepcopy(subject.model).double()
    logits = model(torch.tensor([text]))[0, -1]
    return -logits.log_softmax(-1)[target].item()


@pytest.mark.parametrize("posenc", POSENCS)
def test_each_stretch_is_the_mean_over_its_positions(posenc, tmp_path):
    subject = tiny_subject(tmp_path, posenc=posenc)
    found = dict(PerplexityByPosition(window=24, edges=[4, 10], windows=3).run(subject))
    tokens = tokens_of(subject)
    last = ((len(tokens) - 1) // 24 - 1) * 24
    starts = [0, round(last / 2 / 24) * 24, last]
    for low, high in ((0, 4), (4, 10), (10, 24)):
        losses = [
            loss_after(subject, tokens[start : start + c], tokens[start + c])
            for start in starts
            for c in range(low + 1, high + 1)  # so many tokens stand before the target
        ]
        assert found[f"n/{low}-{high}"] == len(losses)
        expected = math.exp(sum(losses) / len(losses))
        assert found[f"ppl/{low}-{high}"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("posenc", POSENCS)
def test_growing_context_scores_the_same_targets(posenc, tmp_path):
    subject = tiny_subject(tmp_path, posenc=posenc)
    found = dict(LossByContext(shortest=4, doublings=2, windows=2).run(subject))
    tokens = tokens_of(subject)
    assert found["context/n"] == 8
    for context in (4, 8, 16):
        losses = []
        for start in (0, ((len(tokens) - 1) // 16 - 1) * 16):
            end = start + 16
            for place in range(end - 3, end + 1):  # the last four targets of the window
                text = tokens[end - context : place]
                losses.append(loss_after(subject, text, tokens[place]))
        mean = sum(losses) / len(losses)
        assert found[f"context/loss@{context}"] == pytest.approx(mean, rel=1e-5)


def test_what_lies_further_back_is_all_that_differs(tmp_path):
    """A net that sees the last token alone has the same loss under every context."""
    subject = tiny_subject(tmp_path, posenc="none")
    for block in subject.model.blocks():
        torch.nn.init.zeros_(block.attention.out.weight)
    found = dict(LossByContext(shortest=4, doublings=4, windows=3).run(subject))
    losses = [v for k, v in found.items() if k.startswith("context/loss")]
    assert len(losses) == 5 and losses == pytest.approx([losses[0]] * 5, rel=1e-6)


def test_all_windows_score_each_token_once(tmp_path):
    """A mean over stretches, weighted by their n, is the mean over cold windows."""
    subject = tiny_subject(tmp_path)
    found = dict(PerplexityByPosition(window=32, edges=[1, 5], windows=1000).run(subject))
    names = [k.removeprefix("n/") for k in found if k.startswith("n/") and "-" in k]
    n = sum(found[f"n/{name}"] for name in names)
    full = (len(tokens_of(subject)) - 1) // 32
    assert n == full * 32
    total = sum(found[f"n/{name}"] * math.log(found[f"ppl/{name}"]) for name in names)
    tokens = torch.tensor(tokens_of(subject)[: n + 1])
    with torch.inference_mode():
        logp = subject.model(tokens[:-1].view(full, 32)).log_softmax(-1)
    nll = -logp.gather(-1, tokens[1:].view(full, 32, 1))
    assert total / n == pytest.approx(nll.mean().item(), rel=1e-5)


def test_logits_are_formed_for_a_few_tokens_at_a_time(tmp_path, monkeypatch):
    subject = tiny_subject(tmp_path)
    measure = PerplexityByPosition(window=64, edges=[16], windows=4)
    whole = dict(measure.run(subject))
    monkeypatch.setattr(windows, "LOGITS_AT_ONCE", 5)
    seen, plain = [], subject.model.logits
    monkeypatch.setattr(subject.model, "logits", lambda h: seen.append(len(h)) or plain(h))
    assert dict(measure.run(subject)) == pytest.approx(whole)
    assert max(seen) == 5 and sum(seen) == 4 * 64


def test_a_table_of_positions_that_ends_gives_no_value_beyond(tmp_path, caplog):
    """256 positions, windows of 400: what lies before the end has its value, nothing is cropped."""
    subject = tiny_subject(tmp_path, posenc="learned")
    with caplog.at_level(logging.WARNING):
        found = dict(
            PerplexityByPosition(window=400, edges=[100, 256, 300], windows=2).run(subject)
        )
    assert "positions are a table trained to 256 of 400 tokens" in caplog.text
    assert found["n/0-100"] == 200 and found["ppl/100-256"] > 1
    assert found["ppl/256-300"] is None and found["n/256-300"] == 0
    assert found["ppl/300-400"] is None
    shorter = dict(PerplexityByPosition(window=400, edges=[200, 300], windows=2).run(subject))
    assert shorter["ppl/0-200"] > 1 and shorter["ppl/200-300"] is None  # half a stretch is none
    grown = dict(LossByContext(shortest=128, doublings=2, windows=2).run(subject))
    assert grown["context/loss@256"] > 0 and grown["context/loss@512"] is None


def test_what_a_table_holds_past_the_trained_length_gives_no_value(tmp_path):
    """4096 rows, 512 of them trained, were once scored as if they meant something."""
    subject = tiny_subject(tmp_path, posenc="learned")
    shorter = replace(subject, recipe=replace(subject.recipe, context=128))
    found = dict(LossByContext(shortest=128, doublings=1, windows=2).run(shorter))
    assert found["context/loss@128"] > 0 and found["context/loss@256"] is None


def test_a_text_without_a_window_gives_no_value(tmp_path, caplog):
    subject = tiny_subject(tmp_path)
    with caplog.at_level(logging.INFO):
        found = dict(PerplexityByPosition(window=5000, edges=[1024], windows=2).run(subject))
    assert found.pop("n/windows") == 0
    assert found == {"ppl/0-1k": None, "n/0-1k": 0, "ppl/1k-5000": None, "n/1k-5000": 0}
    assert "no window of 5000 tokens in a text of 2400" in caplog.text
    grown = dict(LossByContext(shortest=4096, doublings=0, windows=2).run(subject))
    assert grown == {"context/loss@4096": None, "context/n": 0}


def test_the_names_of_the_yaml_are_those_of_the_figures(tmp_path):
    found = dict(
        PerplexityByPosition(window=8192, edges=[1024, 4096], windows=1).run(tiny_subject(tmp_path))
    )
    assert [k for k in found if k.startswith("ppl")] == ["ppl/0-1k", "ppl/1k-4k", "ppl/4k-8k"]


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get(FOLDER_VARIABLE), reason="the novel is not here")
def test_a_novel_is_scored_up_to_8192_tokens(tmp_path):
    """From the real text to the record: 10 windows fit, and the longest context sees the most."""
    prepare(Regenta(), tmp_path / "data", tier=FOLDER_VARIABLE)
    words = ["task=regenta", "task.window=512", "model=tiny", "train=smoke", "eval=long_context"]
    metrics = run(tmp_path, *words, "posenc=rope").metrics
    assert metrics["n/windows"] == (82_176 - 1) // 8192 == 10
    assert [metrics[f"n/{s}"] for s in ("0-1k", "1k-4k", "4k-8k")] == [10_240, 30_720, 40_960]
    assert metrics["context/n"] == 2560
    losses = {k: v for k, v in metrics.items() if k.startswith(("ppl/", "context/loss"))}
    assert len(losses) == 3 + 6 and all(v > 1 for v in losses.values())
    stretches = sum(
        metrics[f"n/{s}"] * math.log(metrics[f"ppl/{s}"]) for s in ("0-1k", "1k-4k", "4k-8k")
    )
    assert stretches / 81_920 == pytest.approx(metrics["val/loss"], rel=0.02)
