"""No positions: the control."""

from micro_transformer.nn.posenc.base import PositionalEncoding


class NoPosition(PositionalEncoding):
    """Order is known to the net through the causal mask alone (Haviv et al., 2022)."""

    relative = True
