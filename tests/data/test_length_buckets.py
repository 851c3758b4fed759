"""Batches of sentences: every row once an epoch, little padding, an order that needs no state."""

import numpy as np
import pytest
import torch

from micro_transformer.data.length_buckets import (
    Buckets,
    TokenBuckets,
    pad_left,
    pad_right,
    positions,
)
from micro_transformer.data.tokenizer import PAD

LENGTHS = np.random.default_rng(0).geometric(0.1, 1003)


@pytest.mark.parametrize("batch_size", [1, 8, 64, 5000])
def test_an_epoch_has_every_row_once(batch_size):
    buckets = Buckets(LENGTHS)
    steps = -(-len(LENGTHS) // batch_size)
    for epoch in range(2):
        rows = [buckets.rows(3, epoch * steps + s, batch_size) for s in range(steps)]
        assert sorted(np.concatenate(rows)) == list(range(len(LENGTHS)))


def test_a_batch_depends_on_seed_and_step_alone():
    used, fresh = Buckets(LENGTHS), Buckets(LENGTHS)
    for step in (9, 0, 500):
        used.rows(1, step, 8)
    assert np.array_equal(used.rows(1, 7, 8), fresh.rows(1, 7, 8))
    assert not np.array_equal(used.rows(1, 7, 8), used.rows(2, 7, 8))


def test_epochs_differ():
    buckets = Buckets(LENGTHS)
    assert not np.array_equal(buckets.rows(1, 0, 8), buckets.rows(1, -(-len(LENGTHS) // 8), 8))


def test_buckets_save_most_of_the_padding():
    def padding(batches):
        return sum(len(b) * LENGTHS[b].max() - LENGTHS[b].sum() for b in batches)

    buckets = Buckets(LENGTHS)
    sorted_in = padding([buckets.rows(0, s, 16) for s in range(63)])
    drawn = padding(np.array_split(np.random.default_rng(0).permutation(len(LENGTHS)), 63))
    assert sorted_in < 0.2 * drawn


def test_no_rows_is_an_error():
    with pytest.raises(ValueError, match="without rows"):
        Buckets([])


ROWS = [np.array([5, 6, 7]), np.array([8]), np.array([9, 10])]


def test_padding_right_and_left():
    assert pad_right(ROWS).tolist() == [[5, 6, 7], [8, PAD, PAD], [9, 10, PAD]]
    assert pad_left(ROWS).tolist() == [[5, 6, 7], [PAD, PAD, 8], [PAD, 9, 10]]


@pytest.mark.parametrize("pad", [pad_left, pad_right])
def test_positions_count_real_tokens(pad):
    ids = pad(ROWS)
    pos = positions(ids)
    assert torch.equal(pos == -1, ids == PAD)
    for row, line in zip(ROWS, pos, strict=True):
        assert line[line >= 0].tolist() == list(range(len(row)))


@pytest.mark.parametrize("budget", [1, 30, 400, 10**6])
def test_an_epoch_of_equal_cost_has_every_row_once(budget):
    buckets = TokenBuckets(LENGTHS)
    steps = len(buckets.cuts(budget)) - 1
    for epoch in range(2):
        rows = [buckets.rows(3, epoch * steps + s, budget) for s in range(steps)]
        assert sorted(np.concatenate(rows)) == list(range(len(LENGTHS)))
        for batch in rows:
            assert len(batch) == 1 or len(batch) * LENGTHS[batch].max() <= budget


def test_batches_of_equal_cost_need_no_state():
    used, fresh = TokenBuckets(LENGTHS), TokenBuckets(LENGTHS)
    for step in (9, 0, 500):
        used.rows(1, step, 80)
    assert np.array_equal(used.rows(1, 7, 80), fresh.rows(1, 7, 80))
    orders = [[tuple(used.rows(seed, s, 80)) for s in range(50)] for seed in (1, 2)]
    assert orders[0] != orders[1]


def test_rows_of_one_length_are_shuffled_among_batches():
    buckets = TokenBuckets([5] * 100)
    first = {tuple(sorted(buckets.rows(1, step, 50))) for step in range(10)}
    second = {tuple(sorted(buckets.rows(1, 10 + step, 50))) for step in range(10)}
    assert not first & second


def test_batches_of_equal_cost_have_hardly_a_pad():
    buckets = TokenBuckets(LENGTHS)
    batches = [buckets.rows(0, s, 160) for s in range(len(buckets.cuts(160)) - 1)]
    pads = sum(len(b) * LENGTHS[b].max() - LENGTHS[b].sum() for b in batches)
    assert pads < 0.1 * LENGTHS.sum()


def test_no_rows_are_no_batches_of_equal_cost():
    with pytest.raises(ValueError, match="without rows"):
        TokenBuckets([])
