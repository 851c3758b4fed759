"""What is said of samples, and what may stand in them."""

import pytest

from micro_transformer.evals.samples import distinct, printable


def test_distinct_counts_different_runs_of_words():
    assert distinct(["a b a b a"], 2) == 2 / 4
    assert distinct(["a b", "a b"], 2) == 1 / 2  # over all texts together
    assert distinct(["a b c d"], 2) == 1
    assert distinct(["a b", "c"], 1) == 1


def test_distinct_of_too_few_words_is_unknown():
    assert distinct(["word", ""], 2) is None


@pytest.mark.parametrize("bad", ["\x1b[31m", "\x07", "\x9b2J", "\r", "\x00", "\u202e"])
def test_nothing_that_a_terminal_would_obey_is_written(bad):
    assert printable(f"a{bad}b\n\tñ") == "a" + bad.lstrip("\x1b\x07\x9b\r\x00\u202e") + "b\n\tñ"
