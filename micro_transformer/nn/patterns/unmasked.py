"""No mask: every token sees the whole text."""

from micro_transformer.nn.patterns.base import Pattern
from micro_transformer.nn.visibility import Everything


class Unmasked(Everything, Pattern):
    """No restriction, not even causality: a control, for a net that reads its own targets."""

    causal = False
