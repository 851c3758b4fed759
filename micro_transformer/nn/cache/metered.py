"""What a cache says of its memory, beside what it holds."""

from dataclasses import dataclass
from typing import cast

from micro_transformer.nn.cache.base import Cache, CacheLayer


@dataclass
class Traffic:
    """Bytes that lie on other tiers, and what has gone to them and come back since the start."""

    host_bytes: int = 0  # in the memory of the CPU, beside a GPU
    file_bytes: int = 0
    transfers: int = 0  # of a block's keys or values
    transferred_bytes: int = 0


class Metered(CacheLayer):
    """A layer that says what it must take, how much of it holds tokens, and what it moved."""

    def reset(self) -> None:
        """No token is held, in as many rows as at first."""
        raise NotImplementedError

    def predicted_nbytes(self, tokens: int) -> int:
        """What `nbytes` is with so many tokens in every row: from sizes alone, not the storages."""
        raise NotImplementedError

    def used_nbytes(self) -> int:
        """Of `nbytes`, those that hold tokens; the rest is fragmentation or work space."""
        raise NotImplementedError

    def traffic(self) -> Traffic:
        """What lies elsewhere; nothing, but for a cache with more tiers than one."""
        return Traffic()

    def token_nbytes(self) -> int:
        """Bytes of a token's key and value, in every row, as the net computes them."""
        spec = self.spec
        return 2 * spec.batch * spec.num_heads * spec.head_dim * spec.dtype.itemsize


def metered(cache: Cache) -> list[Metered]:
    """The layers; those of conf/cache are all metered."""
    return cast("list[Metered]", cache.layers)


def emptied(cache: Cache) -> Cache:
    """A cache for the next text, on the memory of one that is no longer used."""
    for layer in metered(cache):
        layer.reset()
    return Cache(cache.layers, cache.planned_len)
