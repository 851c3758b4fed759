"""Full attention: no pattern."""

from micro_transformer.nn.masks import MaskFn
from micro_transformer.nn.patterns.base import Pattern


class Full(Pattern):
    """No restriction beyond causality and padding."""

    def join(self, fn: MaskFn) -> MaskFn:
        return fn
