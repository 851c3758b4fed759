"""Single sentences with labels or masks: batches, and scores that no batch changes."""

import math
from collections import Counter

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from micro_transformer.data.corpora.mlm import MaskedText
from micro_transformer.data.corpora.sst2 import SST2 as Reviews
from micro_transformer.data.masking import masked
from micro_transformer.data.tokenizer import BOS, FIRST, MASK, PAD
from micro_transformer.stats import classification as stats
from micro_transformer.tasks import bucketed
from micro_transformer.tasks.mlm import MaskedLM
from micro_transformer.tasks.sst2 import SST2
from tests.conftest import tiny_encoder
from tests.evals.subjects import sentence_data

BATCH, CONTEXT = 16, 128
TASKS = ["sst2", "mlm"]


def opened(name):
    corpus, task = {"sst2": (Reviews, SST2), "mlm": (MaskedText, MaskedLM)}[name]
    return task(sentence_data(corpus(tokenizer="bpe_1k")), tokenizer="bpe_1k")


@pytest.fixture(params=TASKS)
def task(request):
    return opened(request.param)


def encoder(task):
    pooling = "cls" if task.classes else "none"
    return tiny_encoder(
        pooling=pooling, vocab_size=task.vocab_size, num_outputs=task.num_outputs, max_len=2048
    )


def rows(task, split):
    data = task.data
    return [tuple(data.row(split, i).tolist()) for i in range(data.splits[split]["rows"])]


def texts(task, batch):
    """Each row of a batch as in the corpus: without pads and BOS, masked tokens as they were."""
    ids = batch.ids
    if not task.classes:
        ids = torch.where(batch.targets != PAD, batch.targets, batch.ids)
    return [tuple(row[row != PAD].tolist()[1:]) for row in ids]


def epoch(task, seed=1, first=0):
    num = len(task._buckets("train").cuts(BATCH * CONTEXT)) - 1
    return [task.train_batch(seed, first + step, BATCH, CONTEXT) for step in range(num)]


def test_an_epoch_has_every_sentence_once_and_as_many_tokens_as_the_task_says(task):
    batches = epoch(task)
    found = [text for batch in batches for text in texts(task, batch)]
    assert Counter(found) == Counter(rows(task, "train"))
    assert sum(int(task.num_tokens(batch)) for batch in batches) == task.train_tokens
    again = [text for batch in epoch(task, first=len(batches)) for text in texts(task, batch)]
    assert again != found and Counter(again) == Counter(found)


def test_a_batch_is_a_function_of_seed_and_step(task):
    one, same, step, seed = (
        task.train_batch(s, n, BATCH, CONTEXT) for s, n in ((1, 3), (1, 3), (1, 4), (2, 3))
    )
    assert all(map(torch.equal, one, same))
    assert not any(torch.equal(one.ids, other.ids) for other in (step, seed))


def test_a_sentence_begins_with_bos_and_a_batch_fits_its_size(task):
    for batch in epoch(task)[:20]:
        assert (batch.ids[:, 0] == BOS).all()
        assert batch.ids.numel() <= BATCH * CONTEXT or len(batch.ids) == 1


def test_scores_do_not_depend_on_the_batches_they_are_formed_in(task, monkeypatch):
    net = encoder(task)
    expected = task.score(net)
    for size in (600, 100_000):
        monkeypatch.setattr(bucketed, "SCORED_AT_ONCE", size)
        fresh = opened("sst2" if task.classes else "mlm")
        found = fresh.score(net)
        for scores in (found, expected):
            assert scores.get("ppl", math.exp(scores["loss"])) == math.exp(scores["loss"])
        assert without_ppl(found) == pytest.approx(without_ppl(expected), rel=1e-6)


def without_ppl(scores):
    """Perplexity has the error of the loss times the loss."""
    return {name: value for name, value in scores.items() if name != "ppl"}


def test_scores_are_those_of_the_definition():
    task = opened("sst2")
    net, labels = encoder(task).double(), task.labels("val")
    with torch.no_grad():
        logits = torch.cat([net(torch.tensor([[BOS, *row]])) for row in rows(task, "val")[:40]])
    found = task.probabilities(net, "val")[:40]
    np.testing.assert_allclose(found, logits.softmax(-1).numpy(), atol=1e-9)
    wanted = F.cross_entropy(logits, torch.tensor(labels[:40]))
    assert stats.scores(labels[:40], found)["loss"] == pytest.approx(float(wanted))


def test_a_masked_models_score_is_the_mean_over_what_is_asked():
    task = opened("mlm")
    net, total, num = encoder(task).double(), 0.0, 0
    batches = task._fixed("val")[-2:]
    task._fixed = lambda split: batches
    for ids, targets in ((i, t) for b in batches for i, t in zip(b.ids, b.targets, strict=True)):
        real, at = ids != PAD, (targets != PAD)[ids != PAD]
        with torch.no_grad():
            logits = net(ids[real][None])[0][at]
        total += float(F.cross_entropy(logits, targets[real][at], reduction="sum"))
        num += int(at.sum())
    assert task.score(net)["loss"] == pytest.approx(total / num, rel=1e-6)


def test_the_masks_of_an_evaluation_are_fixed_and_those_of_training_are_not():
    one, other = opened("mlm"), opened("mlm")
    for a, b in zip(one._fixed("val"), other._fixed("val"), strict=True):
        assert torch.equal(a.ids, b.ids) and torch.equal(a.targets, b.targets)
    steps = len(one._buckets("train").cuts(BATCH * CONTEXT)) - 1
    firsts: dict = {}
    for batch in [*epoch(one), *epoch(one, first=steps)]:
        for text, asked in zip(texts(one, batch), batch.targets, strict=True):
            firsts.setdefault(text, []).append(tuple((asked != PAD).nonzero().flatten().tolist()))
    again = [a == b for a, b in firsts.values() if a and b]
    assert len(again) > 100 and np.mean(again) < 0.1


def test_about_a_seventh_of_the_text_is_asked_and_pads_and_bos_never():
    task = opened("mlm")
    text = asked = 0
    for batch in epoch(task):
        assert not (batch.targets != PAD)[(batch.ids < FIRST) & (batch.ids != MASK)].any()
        asked += int(task.num_scored(batch))
        text += int(task.num_tokens(batch)) - len(batch.ids)
    assert asked / text == pytest.approx(task.mask_share, rel=0.03)


def test_a_masked_loss_is_that_of_the_selected_tokens():
    task = opened("mlm")
    net, batch = encoder(task), task.train_batch(1, 0, BATCH, CONTEXT)
    at = batch.targets != PAD
    expected = F.cross_entropy(net(batch.ids)[at], batch.targets[at])
    torch.testing.assert_close(task.loss(net, batch), expected)
    nothing = batch._replace(targets=torch.zeros_like(batch.targets))
    loss = task.loss(net, nothing)
    loss.backward()
    assert loss.item() == 0


def test_masking_uses_the_vocabulary_of_the_task(monkeypatch):
    task, asked = opened("mlm"), []

    def watched(ids, draw, share, vocab_size):
        asked.append((share, vocab_size))
        return masked(ids, draw, share, vocab_size)

    monkeypatch.setattr("micro_transformer.tasks.mlm.masked", watched)
    task.train_batch(1, 0, BATCH, CONTEXT)
    assert asked == [(0.15, task.vocab_size)]
