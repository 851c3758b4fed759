"""Full attention: no pattern."""

from micro_transformer.nn.patterns.base import Pattern
from micro_transformer.nn.visibility import Everything


class Full(Everything, Pattern):
    """No restriction beyond causality and padding."""
