"""Base class of attention patterns."""

from micro_transformer.nn.visibility import Visibility


class Pattern(Visibility):
    """Which keys a query sees of those that causality allows, in training and inference.

    No parameters. Its `coverage` decides which parts of the scores are skipped.
    """
