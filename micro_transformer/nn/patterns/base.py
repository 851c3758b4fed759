"""Base class of attention patterns."""

from micro_transformer.nn.visibility import Visibility


class Pattern(Visibility):
    """Which keys a query sees of those that causality allows, in training and inference.

    No parameters. Its `coverage` decides which parts of the scores are skipped.
    """

    causal = True  # False: a query sees what comes after it too
    gaps = (
        False  # True: the keys of one query are not consecutive, so a cache gives several segments
    )
