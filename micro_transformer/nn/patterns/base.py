"""The seam of attention patterns."""

from micro_transformer.nn.masks import MaskFn


class Pattern:
    """Which keys a query may see at all; trained with the weights. It has no weights itself."""

    reach: int | None = None  # keys back that a query can see, itself included; None: all

    def join(self, fn: MaskFn) -> MaskFn:
        """What both the predicate and the pattern allow."""
        raise NotImplementedError
