"""Clocks: what is counted, and what is said of it."""

import pytest

from micro_transformer.bench import timing


def test_warm_up_is_run_and_not_counted():
    calls = []
    assert len(timing.seconds(lambda: calls.append(1), "cpu", repeats=3, warmup=2)) == 3
    assert len(calls) == 5


def test_seconds_are_those_of_the_call():
    clock = iter([0.0, 1.0, 5.0, 5.5])  # two calls: 1 s and half a second
    original, timing.clock = timing.clock, lambda _: next(clock)
    try:
        assert timing.seconds(lambda: None, "cpu", repeats=2, warmup=0) == [1.0, 0.5]
    finally:
        timing.clock = original


def test_spread_is_the_interquartile_range():
    assert timing.spread([5, 1, 2, 4, 3]) == pytest.approx(2)
    assert timing.spread([7.0]) is None
    assert timing.scaled(1e3, None) is None and timing.scaled(1e3, 0.5) == 500
