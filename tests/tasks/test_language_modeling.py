"""Scores are over the whole split, weighted by tokens, unsmoothed; losses ignore padding."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from micro_transformer.data.build_dataset import prepare
from micro_transformer.data.corpora.micro import Micro as Corpus
from micro_transformer.data.prepared_dataset import DataMissing
from micro_transformer.data.tokenizer import PAD, train
from micro_transformer.tasks import language_modeling
from micro_transformer.tasks.language_modeling import (
    LanguageModeling,
    nll_metrics,
    perplexity,
)
from micro_transformer.tasks.micro import Micro
from micro_transformer.tasks.token_prediction import mean_nll


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    for tokenizer in ("char", "byte"):
        prepare(Corpus(language="es", stories=60, tokenizer=tokenizer), folder)
    return folder


def task_of(root, tokenizer="char", window=64):
    return Micro(root, language="es", stories=60, tokenizer=tokenizer, window=window)


class Unigram(nn.Module):
    """Logits that depend on the token alone."""

    def __init__(self, vocab_size):
        super().__init__()
        self.table = nn.Embedding(vocab_size, vocab_size)

    def forward(self, ids):
        return self.table(ids)


@pytest.mark.parametrize("tokenizer", ["char", "byte"])
def test_a_uniform_model_scores_the_size_of_the_vocabulary(root, tokenizer):
    task = task_of(root, tokenizer)
    model = Unigram(task.vocab_size)
    nn.init.zeros_(model.table.weight)
    score = task.score(model)
    assert score["loss"] == pytest.approx(math.log(task.vocab_size))
    assert score["ppl"] == pytest.approx(task.vocab_size)


def test_bits_per_byte_counts_bytes_not_characters(root):
    task = task_of(root)
    model = Unigram(task.vocab_size)
    nn.init.zeros_(model.table.weight)
    text = task.tokenizer.decode(task.data.tokens("val").tolist())
    per_char = math.log2(task.vocab_size) * (len(text) - 1)
    assert len(text.encode()) > len(text)
    assert task.score(model)["bits_per_byte"] == pytest.approx(per_char / (len(text.encode()) - 1))


# Tokenizers, the texts they are made of, and bytes of the first token of c + " andú?".
FIRST_BYTES = {
    "char": lambda c: (train("char", [c + " andú?"]), len(c.encode())),
    "char, c unknown": lambda c: (train("char", [" andú?"]), len(c.encode())),
    "byte": lambda c: (train("byte", []), 1),
    "bpe of bytes": lambda c: (train("bpe_1k", ["x"]), 1),
    "bpe of characters": lambda c: (train("bpe_1k", [f"{c} andú? " * 50]), len(c.encode())),
}


@pytest.mark.parametrize("first", ["b", "¿", "€", "🦙"])
@pytest.mark.parametrize("kind", FIRST_BYTES)
def test_bits_per_byte_are_those_of_the_bytes_after_the_first_token(kind, first):
    text = first + " andú?"
    tokens, first_bytes = FIRST_BYTES[kind](first)
    ids, size = tokens.encode(text), len(text.encode())
    splits = {"val": {"columns": {"text": {"bytes": size}}}}
    data = SimpleNamespace(tokenizer=tokens, tokens=lambda split: ids, splits=splits)
    model = Unigram(tokens.vocab_size)
    nn.init.zeros_(model.table.weight)
    expected = math.log2(tokens.vocab_size) * (len(ids) - 1) / (size - first_bytes)
    score = LanguageModeling(data, window=2).score(model)
    assert score["bits_per_byte"] == pytest.approx(expected)


def test_a_split_with_nothing_to_score_says_so(root):
    task = task_of(root)
    task.data = SimpleNamespace(tokens=lambda split: np.array([7]), tokenizer=task.tokenizer)
    with pytest.raises(ValueError, match="split=val: .* 1 tokens"):
        task.score(Unigram(task.vocab_size))


@pytest.mark.parametrize(
    ("loss", "expected"),
    [(0.0, 1.0), (1.0, math.e), (-math.inf, 0.0), (701.0, math.inf), (math.inf, math.inf)],
)
def test_perplexity_is_the_exponential(loss, expected):
    assert perplexity(loss) == expected


def test_the_perplexity_of_no_number_is_none():
    assert math.isnan(perplexity(math.nan))
    found = nll_metrics(math.nan, 3, 4)
    assert all(math.isnan(value) for value in found.values())


@pytest.mark.parametrize(
    "window, at_once", [(64, 64), (64, 8192), (50, 500), (7, 21), (100_000, 1)]
)
def test_the_score_of_a_context_free_model_is_one_number(root, monkeypatch, window, at_once):
    """An oracle in float64 over single tokens: batches of unequal size must not change a weighted
    mean.
    """
    torch.manual_seed(0)
    monkeypatch.setattr(language_modeling, "SCORED_AT_ONCE", at_once)
    task = task_of(root, window=window)
    model = Unigram(task.vocab_size)
    ids = torch.from_numpy(task.data.tokens("val").astype("int64"))
    logp = model.table.weight.double().log_softmax(-1)
    expected = -logp[ids[:-1], ids[1:]].mean().item()
    assert task.score(model)["loss"] == pytest.approx(expected, rel=1e-6)


def test_scoring_leaves_mode_and_gradients_alone(root):
    task = task_of(root)
    model = Unigram(task.vocab_size).train()
    task.score(model)
    assert model.training
    assert all(p.grad is None for p in model.parameters())


def test_dropout_is_off_in_scores(root):
    task = task_of(root)
    model = nn.Sequential(Unigram(task.vocab_size), nn.Dropout(0.5))
    assert task.score(model) == task.score(model)


def test_padding_costs_nothing():
    logits = torch.randn(2, 3, 7)
    targets = torch.tensor([[1, 2, PAD], [PAD, PAD, PAD]])
    expected = mean_nll(logits[:1, :2], targets[:1, :2])
    assert torch.allclose(mean_nll(logits, targets), expected)


def test_a_batch_of_padding_alone_has_loss_zero():
    """torch's own mean is NaN there, and one NaN ends a training."""
    logits = torch.randn(2, 3, 7, requires_grad=True)
    loss = mean_nll(logits, torch.full((2, 3), PAD))
    loss.backward()
    assert loss.item() == 0 and torch.equal(logits.grad, torch.zeros_like(logits))


def test_smoothing_changes_the_training_loss_and_no_score(root):
    task = task_of(root)
    torch.manual_seed(0)
    model = Unigram(task.vocab_size)
    batch = task.train_batch(1, 0, 4, 32)
    plain, smooth = task.loss(model, batch), task.loss(model, batch, 0.1)
    logp = model(batch.ids).log_softmax(-1)
    assert torch.allclose(smooth, 0.9 * plain - 0.1 * logp.mean(-1).mean(), atol=1e-5)
    assert not torch.allclose(plain, smooth)


def test_missing_data_name_the_command(tmp_path):
    with pytest.raises(
        DataMissing, match="prepare task=micro language=en stories=60 tokenizer=char"
    ):
        Micro(tmp_path, stories=60)
