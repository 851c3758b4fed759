"""What is said of samples, and what may stand in them."""

import pytest

from micro_transformer.evals.samples import printable


@pytest.mark.parametrize("bad", ["\x1b[31m", "\x07", "\x9b2J", "\r", "\x00", "\u202e"])
def test_nothing_that_a_terminal_would_obey_is_written(bad):
    assert printable(f"a{bad}b\n\tñ") == "a" + bad.lstrip("\x1b\x07\x9b\r\x00\u202e") + "b\n\tñ"
