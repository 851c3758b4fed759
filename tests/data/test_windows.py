"""Windows are arithmetic: pure in (seed, step), each once an epoch, validation in full."""

import numpy as np
import pytest
import torch

from micro_transformer.data.windows import fixed_windows, train_windows, window_starts

TOKENS = np.arange(5, 1005).astype(np.uint16)


def test_a_batch_depends_on_seed_and_step_alone():
    later = train_windows(TOKENS, 42, 9, 4, 16)
    for step in (0, 3, 200):
        train_windows(TOKENS, 42, step, 4, 16)
    assert torch.equal(later.ids, train_windows(TOKENS, 42, 9, 4, 16).ids)
    assert not torch.equal(later.ids, train_windows(TOKENS, 43, 9, 4, 16).ids)
    assert not torch.equal(later.ids, train_windows(TOKENS, 42, 10, 4, 16).ids)


def test_the_global_generators_are_not_touched():
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    np.random.seed(0)
    train_windows(TOKENS, 42, 9, 4, 16)
    assert torch.equal(torch.rand(1), expected)


def test_targets_are_the_next_tokens():
    batch = train_windows(TOKENS, 1, 2, 4, 16)
    assert batch.ids.shape == batch.targets.shape == (4, 16)
    assert torch.equal(batch.targets, batch.ids + 1)
    assert batch.ids.dtype == torch.int64


@pytest.mark.parametrize("batch_size", [1, 4, 7])
def test_an_epoch_visits_every_window_once(batch_size):
    context = 16
    windows = (len(TOKENS) - 1) // context - 1
    starts = np.concatenate(
        [window_starts(len(TOKENS), 3, s, batch_size, context) for s in range(2 * windows)]
    )
    for epoch in range(2):
        seen = starts[epoch * windows : (epoch + 1) * windows]
        assert len(set(seen.tolist())) == windows
        assert (np.diff(np.sort(seen)) == context).all()
    assert set(starts[:windows]) != set(starts[windows : 2 * windows])  # another offset


def test_batch_size_does_not_change_the_order():
    by_two = [window_starts(1000, 3, s, 2, 16) for s in range(6)]
    by_six = [window_starts(1000, 3, s, 6, 16) for s in range(2)]
    assert np.array_equal(np.concatenate(by_two), np.concatenate(by_six))


@pytest.mark.parametrize("length", [17, 18, 40])
def test_a_short_stream_still_has_a_window(length):
    assert train_windows(TOKENS[:length], 0, 5, 3, 16).ids.shape == (3, 16)


def test_a_stream_shorter_than_a_window_is_refused():
    with pytest.raises(ValueError, match="train.context=16"):
        train_windows(TOKENS[:16], 0, 0, 1, 16)


@pytest.mark.parametrize("length, window", [(1000, 16), (17, 16), (10, 16), (33, 16), (34, 16)])
def test_fixed_windows_score_every_token_but_the_first_once(length, window):
    batches = list(fixed_windows(TOKENS[:length], window, 4, "cpu"))
    targets = torch.cat([b.targets.flatten() for b in batches])
    assert targets.tolist() == TOKENS[1:length].tolist()
    assert all(torch.equal(b.ids + 1, b.targets) for b in batches)
