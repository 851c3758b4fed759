"""No pattern."""

from micro_transformer.nn.masks import MaskFn
from micro_transformer.nn.patterns.base import Pattern


class Full(Pattern):
    """Every key may be seen."""

    def join(self, fn: MaskFn) -> MaskFn:
        return fn
