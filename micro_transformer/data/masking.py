"""Masks tokens of sentences for a masked language model (Devlin et al., 2019, section 3.1)."""

import numpy as np

from micro_transformer.data.tokenizer import FIRST, MASK, PAD

MASKED, RANDOM = 0.8, 0.1  # of the selected tokens; the rest keep their own id


def masked(
    ids: np.ndarray, draw: np.random.Generator, share: float, vocab_size: int
) -> tuple[np.ndarray, np.ndarray]:
    """(what the net reads, what it is asked: the token where one is selected, PAD elsewhere).

    Each token of text is selected with probability `share`, special tokens and pads never. A
    selected one is read as MASK (80 %), as a token drawn uniformly from those of text (10 %), or
    as itself (10 %).
    """
    selected = (draw.random(ids.shape) < share) & (ids >= FIRST)
    how = draw.random(ids.shape)
    others = draw.integers(FIRST, vocab_size, ids.shape)
    read = np.where(how < MASKED, MASK, np.where(how < MASKED + RANDOM, others, ids))
    return np.where(selected, read, ids), np.where(selected, ids, PAD)
