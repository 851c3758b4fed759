"""Base class of attention patterns."""

from micro_transformer.nn.masks import MaskFn


class Pattern:
    """Restricts which keys a query can see, in training and inference; no parameters."""

    reach: int | None = None  # number of keys that a query can see, its own included; None: all

    def join(self, fn: MaskFn) -> MaskFn:
        """The predicate `fn` and the pattern's own, joined by a logical and."""
        raise NotImplementedError
