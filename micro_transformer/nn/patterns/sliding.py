"""Sliding-window attention."""

from micro_transformer.config.knobs import Count
from micro_transformer.nn.masks import MaskFn, all_of, window
from micro_transformer.nn.patterns.base import Pattern


class Sliding(Pattern):
    """A query sees the last `window` keys, its own included.

    Beltagy et al., 2020; Jiang et al., 2023.

    Mistral's reference code has one key more; transformers has the same number as here.
    """

    def __init__(self, *, window: Count):
        self.reach = window

    def join(self, fn: MaskFn) -> MaskFn:
        assert self.reach is not None
        return all_of(fn, window(self.reach))
