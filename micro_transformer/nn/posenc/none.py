"""No positional encoding: the control."""

from micro_transformer.nn.posenc.base import PositionalEncoding


class NoPosition(PositionalEncoding):
    """NoPE: the causal mask alone carries order (Haviv et al., 2022)."""

    relative = True
