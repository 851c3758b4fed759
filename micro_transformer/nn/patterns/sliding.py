"""Sliding-window attention."""

from micro_transformer.config.knobs import Count
from micro_transformer.nn.patterns.base import Pattern
from micro_transformer.nn.visibility import Window


class Sliding(Window, Pattern):
    """A query sees the last `window` keys, its own included.

    Beltagy et al., 2020; Jiang et al., 2023.

    Mistral's reference code has one key more; transformers has the same number as here.
    """

    def __init__(self, *, window: Count):
        super().__init__(window)
