"""Pairs that are asked for later: what is needed stands in the sequence, and nothing else helps."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from torch import nn

from micro_transformer.config.resolve import resolve
from micro_transformer.config.schema import read_choice
from micro_transformer.data.recall import Symbols, at_distance, sequences
from micro_transformer.data.tokenizer import FIRST, PAD
from micro_transformer.runs.planning import make_plan
from micro_transformer.store.fingerprints import fingerprints
from micro_transformer.tasks.recall import Recall, answers

SYMBOLS = Symbols(pairs=8, num=24)
DISTANCES = [2, 3, 7, 15, 16, 17, 40, 100]


def small(**changes):
    return Recall(
        **{"pairs": 8, "spare": 16, "start": 16, "grow_every": 3, "window": 64, "sequences": 50}
        | changes
    )


def drawn(kind):
    """Sequences of each layout, by name."""
    draw = np.random.default_rng(5)
    if kind == "training":
        return sequences(draw, SYMBOLS, 40, 64)
    return at_distance(draw, SYMBOLS, 40, kind, 4)


class Lookup(nn.Module):
    """Reads the pairs in front and answers from them: what a net should learn."""

    def __init__(self, task, blind=False):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))
        self.task, self.blind = task, blind

    def hidden(self, ids):
        values = range(self.task.symbols.values.start, self.task.symbols.values.stop)
        found = torch.zeros(*ids.shape, 1)
        for row, line in zip(found, ids.tolist(), strict=True):
            pairs = dict(k for k in pairwise(line) if k[1] in values and not self.blind)
            row[:, 0] = torch.tensor([float(pairs.get(token, PAD)) for token in line])
        return found

    def logits(self, hidden):
        return nn.functional.one_hot(hidden[..., 0].long(), self.task.vocab_size) * 50.0


def test_a_lookup_of_the_pairs_answers_everything():
    """And the same lookup without the pairs nothing: the answer stands nowhere else."""
    task = small()
    score = task.score(Lookup(task))
    assert score["recall"] == 1 and score["loss"] < 1e-9
    assert task.score(Lookup(task, blind=True))["recall"] == 0
    for distance in DISTANCES:
        assert answers(Lookup(task), task.at_distance(distance, 10, 4))[1].all()


@pytest.mark.parametrize("kind", ["training", *DISTANCES])
def test_a_sequence_is_pairs_then_queries_among_fillers(kind):
    """Ids of the kinds do not meet, keys and values of a sequence differ, each key is asked at most
    once more, and what is asked is the value that stood behind it."""
    asked = drawn(kind)
    assert asked.ids.min() >= FIRST and (asked.ids < SYMBOLS.values.stop).all()
    for ids, targets in zip(asked.ids.tolist(), asked.targets.tolist(), strict=True):
        front, behind = ids[:16], ids[16:]
        keys, values = front[::2], front[1::2]
        assert len({*keys}) == len({*values}) == 8
        assert {*keys} <= {*SYMBOLS.keys} and {*values} <= {*SYMBOLS.values}
        queries = [token for token in behind if token in SYMBOLS.keys]
        assert len({*queries}) == len(queries) and {*queries} <= {*keys}
        assert all(token in SYMBOLS.fillers for token in behind if token not in SYMBOLS.keys)
        pairs = dict(zip(keys, values, strict=True))
        assert targets == [PAD] * 16 + [pairs.get(token, PAD) for token in behind]


@pytest.mark.parametrize("distance", DISTANCES)
def test_a_query_stands_exactly_so_far_behind_its_key(distance):
    asked = drawn(distance)
    for ids, targets in zip(asked.ids.tolist(), asked.targets.tolist(), strict=True):
        places = [i for i, target in enumerate(targets) if target != PAD]
        assert len(places) == min(4, distance // 2)
        assert all(ids.index(ids[i]) == i - distance for i in places)


def test_no_query_fits_behind_a_pair_at_distance_one():
    assert not len(drawn(1).answers())


def test_in_training_every_key_is_asked_and_gaps_follow_a_power_law():
    """A place g after the pairs is taken in proportion to 1/g while places are plenty."""
    one = Symbols(pairs=1, num=4)
    asked = sequences(np.random.default_rng(0), one, 20_000, 66)
    gaps = (asked.targets != PAD).nonzero()[:, 1] - 1
    assert len(gaps) == 20_000
    weights = 1 / np.arange(1, 65)
    expected = 20_000 * weights / weights.sum()
    assert chisquare(np.bincount(gaps, minlength=65)[1:], expected).pvalue > 1e-3
    assert (drawn("training").targets != PAD).sum(1).tolist() == [8] * 40


@pytest.mark.parametrize("kind", ["training", 100])
def test_no_answer_is_likelier_than_another(kind):
    """So that the most frequent answer is near chance."""
    draw = np.random.default_rng(1)
    big = sequences(draw, SYMBOLS, 2000, 32) if kind == "training" else None
    big = big or at_distance(draw, SYMBOLS, 2000, kind, 8)
    counts = Counter(big.answers().tolist())
    assert chisquare([counts[v] for v in SYMBOLS.values]).pvalue > 1e-3
    assert max(counts.values()) / counts.total() < 1.2 / 24 < 1 / 8


def test_a_batch_follows_from_seed_and_step_alone():
    task, again = small(), small()
    for step in (7, 0, 4):
        one, other = (t.train_batch(3, step, 4, 64) for t in (task, again))
        assert torch.equal(one.ids, other.ids) and torch.equal(one.targets, other.targets)
    batches = [task.train_batch(s, n, 4, 64).ids for s in (1, 2) for n in (9, 10)]
    assert len({tuple(b.flatten().tolist()) for b in batches}) == 4


def test_stages_double_with_the_step_and_keep_the_tokens_of_a_batch():
    task = small()
    lengths = [task.train_batch(1, step, 4, 64).ids.shape for step in range(12)]
    assert lengths == [(16, 16)] * 3 + [(8, 32)] * 3 + [(4, 64)] * 6
    assert task.train_batch(1, 10**9, 4, 64).ids.shape == (4, 64)
    assert task.train_batch(1, 0, 4, 8).ids.shape == (4, 8)


def test_training_never_sees_what_is_scored():
    task = small()
    seen = {
        tuple(row[:16])
        for seed in range(5)
        for step in range(9, 30)
        for row in task.train_batch(seed, step, 8, 64).ids.tolist()
    }
    fixed = [
        tuple(row[:16]) for s in ("train", "val", "test") for row in task.fixed(s, 64).ids.tolist()
    ]
    fixed += [tuple(row[:16]) for d in DISTANCES for row in task.at_distance(d, 8, 4).ids.tolist()]
    assert len({*fixed}) == len(fixed) and not seen & {*fixed}


def test_only_answers_carry_loss():
    task = small()
    batch = task.train_batch(1, 9, 4, 64)
    logits = torch.randn(4, 64, task.vocab_size, requires_grad=True)
    loss = task.loss(lambda ids: logits, batch)
    loss.backward()
    asked = batch.targets != PAD
    assert not logits.grad[~asked].any() and logits.grad[asked].any(-1).all()
    logp = logits.detach().double().log_softmax(-1)
    rows = [(b, t) for b in range(4) for t in range(64) if batch.targets[b, t] != PAD]
    expected = -sum(logp[b, t, batch.targets[b, t]] for b, t in rows) / len(rows)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert task.num_scored(batch) == len(rows)


def test_score_is_the_mean_over_answers_of_all_sequences(monkeypatch):
    """Whatever the number of sequences scored at once; a net that knows nothing scores ln V."""
    task = small()

    class Flat(nn.Module):
        def __init__(self):
            super().__init__()
            self.bias = nn.Parameter(torch.zeros(task.vocab_size))

        def hidden(self, ids):
            return torch.zeros(*ids.shape, task.vocab_size)

        def logits(self, hidden):
            assert hidden.shape[0] <= 8 * at_once  # answers alone
            return hidden + self.bias

    for at_once in (1, 7, 50):
        monkeypatch.setattr("micro_transformer.tasks.recall.SCORED_AT_ONCE", 64 * at_once)
        score = task.score(Flat())
        assert score["loss"] == pytest.approx(np.log(task.vocab_size), rel=1e-6)
        assert score["recall"] == 0


def test_a_split_that_is_none_is_named():
    with pytest.raises(ValueError, match="split=dev: task recall has train, val, test"):
        small().score(Lookup(small()), "dev")


def test_a_sequence_that_holds_no_pair_is_refused():
    with pytest.raises(ValueError, match="3 tokens have no room for a pair"):
        small().train_batch(1, 9, 4, 3)


def test_the_yaml_gives_each_distance_fifty_answers():
    entry = read_choice("eval", "recall")["measures"]["recall"]
    knobs = {k: v for k, v in read_choice("task", "recall").items() if k != "kind"}
    task = Recall(**knobs)
    for i in range(entry["doublings"] + 1):
        asked = task.at_distance(entry["shortest"] << i, entry["sequences"], entry["queries"])
        assert len(asked.answers()) >= 50


def test_the_record_names_what_is_scored():
    first, again, other = (small(**k).data_record for k in ({}, {"start": 8}, {"spare": 17}))
    assert first == again and first["sha256"] != other["sha256"]
    assert (first["tier"], first["rows"]) == ("drawn", 50)


def test_identity_needs_no_data_and_follows_the_knobs():
    prints = [
        fingerprints(
            resolve(make_plan(["task=recall", "device=cpu", *more]).jobs[0].config), "drawn"
        ).train
        for more in ([], ["task.pairs=16"], ["task.grow_every=50"])
    ]
    assert len({*prints}) == 3
