"""Which tokens a masked language model is asked, and what it reads there."""

import numpy as np
import pytest

from micro_transformer.data.masking import masked
from micro_transformer.data.tokenizer import FIRST, MASK, PAD

VOCAB = 1000
IDS = np.random.default_rng(0).integers(0, VOCAB, (400, 500))


def draws(seed=1, share=0.15):
    return masked(IDS, np.random.default_rng(seed), share, VOCAB)


@pytest.mark.parametrize("share", [0.15, 0.4])
def test_the_shares_are_those_of_the_paper(share):
    """Within four standard deviations."""
    read, asked = draws(share=share)
    text, chosen = IDS >= FIRST, asked != PAD
    for hits, among, wanted in (
        (chosen, text, share),
        (read == MASK, chosen, 0.8),
        ((read != MASK) & (read != IDS), chosen, 0.1 * (1 - 1 / (VOCAB - FIRST))),
        (read == IDS, chosen, 0.1 * (1 + 1 / (VOCAB - FIRST))),
    ):
        num = among.sum()
        found = hits[among].mean()
        assert abs(found - wanted) < 4 * np.sqrt(wanted * (1 - wanted) / num)


def test_only_text_is_asked_and_nothing_else_changes():
    read, asked = draws()
    chosen = asked != PAD
    assert (IDS[chosen] >= FIRST).all() and (asked[chosen] == IDS[chosen]).all()
    assert (read[~chosen] == IDS[~chosen]).all()
    assert set(read[chosen]) <= {MASK, *range(FIRST, VOCAB)}


def test_a_draw_is_a_function_of_its_seed():
    one, again, other = draws(), draws(), draws(2)
    assert all((a == b).all() for a, b in zip(one, again, strict=True))
    assert (one[1] != other[1]).any()


def test_a_share_of_one_asks_every_token_of_text():
    _, asked = draws(share=1.0)
    assert (asked == np.where(IDS >= FIRST, IDS, PAD)).all()
