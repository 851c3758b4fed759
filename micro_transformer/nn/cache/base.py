"""The seam of key-value caches. A cache is passed into a forward, never stored in a module."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from micro_transformer.nn.masks import MaskFn

# B rows, H heads, T tokens, d head width. A column is a token's place in its row, pads included;
# its position may be less, and differ by row.


class CacheSpec(NamedTuple):
    """What a layer must be able to hold."""

    batch: int
    num_heads: int
    head_dim: int
    max_len: int  # tokens
    dtype: torch.dtype
    device: torch.device
    budget_bytes: int | None = None  # that the layer may hold in memory; None: no limit


class OverBudget(Exception):
    """A cache would hold more than it was given; a second try would end the same."""

    status = "oom"
    flags = ("memory budget",)


class QueryView:
    """How queries look at some keys. Views that compare equal share masks and rotations."""

    allows: MaskFn | None = None  # which of the keys, beside what the net's mask says; None: all

    def q_pos(self, pos: Tensor) -> Tensor:
        """Positions from which queries at pos look."""
        return pos


AS_IS = QueryView()


class Segment:
    """Keys and values (B, H, n, d) of the columns from start to stop."""

    def __init__(self, start: int, k: Tensor, v: Tensor, view: QueryView = AS_IS):
        self.start, self.stop = start, start + k.shape[2]
        self.k, self.v, self.view = k, v, view


@dataclass
class Traffic:
    """Bytes that lie on other tiers, and what has gone to them and come back since the start."""

    host_bytes: int = 0  # in the memory of the CPU, beside a GPU
    file_bytes: int = 0
    transfers: int = 0  # of a block's keys or values
    transferred_bytes: int = 0


class CacheLayer:
    """Keys and values of one attention layer."""

    stores = True  # False: holds nothing between calls, so each call must bring the whole sequence
    exact = True  # the net computes what it would without a cache; False: what its class says

    def __init__(self, spec: CacheSpec):
        self.spec = spec

    def append(self, k: Tensor, v: Tensor, pos: Tensor) -> None:
        """k, v (B, H, T, d) of tokens at pos (T,) or (B, T) come after what is held."""
        raise NotImplementedError

    def segments(self, first: int) -> Sequence[Segment]:
        """What the queries appended last may see, in order; no column before `first` is needed."""
        raise NotImplementedError

    def end_forward(self) -> None:
        """The queries appended last have attended; what no later one can see may go."""

    def reorder(self, rows: Tensor) -> None:
        """Row i holds what row rows[i] held; fewer rows are the ones left."""
        raise NotImplementedError

    def reset(self) -> None:
        """No token is held, in as many rows as at first."""
        raise NotImplementedError

    def nbytes(self) -> int:
        """Bytes of the storages that are held."""
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


class Cache:
    """The layers of one decoding, and how far it has come.

    length: tokens in each row, pads included. planned_len: tokens that it will have, as known
    before the first. previous: by layer, what it keeps of the token before the next ones (B, ...).
    """

    def __init__(self, layers: list[CacheLayer], planned_len: int = 0):
        self.layers, self.planned_len = layers, planned_len
        self.stores = all(layer.stores for layer in layers)
        self.length = 0
        self.previous: dict[int, Tensor] = {}
        self._pos: Tensor | None = None  # (B, length), once rows differ

    @classmethod
    def make(
        cls, make_layer: Callable[[CacheSpec], CacheLayer], spec: CacheSpec, num_layers: int
    ) -> "Cache":
        """An empty cache; OverBudget when it takes too much at the start."""
        cache = cls([make_layer(spec) for _ in range(num_layers)], spec.max_len)
        cache.check_budget()
        return cache

    def reset(self) -> "Cache":
        """A cache for the next text, on the memory of this one, which is no longer used."""
        for layer in self.layers:
            layer.reset()
        return Cache(self.layers, self.planned_len)

    @property
    def plain(self) -> bool:
        """Positions are columns in every row; there are no pads."""
        return self._pos is None

    def layer(self, index: int) -> CacheLayer:
        """The layer of block `index`."""
        return self.layers[index]

    def positions(self, num_tokens: int, device: torch.device) -> Tensor:
        """Those of the next tokens: (T,), or (B, T) once rows differ."""
        new = torch.arange(num_tokens, device=device)
        if self._pos is None:
            return self.length + new
        return self._pos.amax(-1, keepdim=True) + 1 + new

    def k_pos(self, pos: Tensor) -> Tensor:
        """Positions of all columns, (T,) or (B, T), those at pos included, which come next."""
        if self.length == 0 or not self.stores:
            return pos
        if self._pos is None and pos.ndim == 1:
            return torch.arange(self.length + len(pos), device=pos.device)
        held = self._pos
        if held is None:
            held = torch.arange(self.length, device=pos.device).expand(len(pos), -1)
        return torch.cat((held, pos), 1)

    def advance(self, pos: Tensor, k_pos: Tensor) -> None:
        """The tokens at pos have gone through every layer; k_pos is of all columns now.

        Error: OverBudget.
        """
        if not self.stores:
            return
        self.length += pos.shape[-1]
        if k_pos.ndim == 2:
            self._pos = k_pos
        for layer in self.layers:
            layer.end_forward()
        self.check_budget()

    def check_budget(self) -> None:
        """OverBudget when a layer holds more than its share; the text names the length reached."""
        for layer in self.layers:
            share = layer.spec.budget_bytes
            if share is not None and (held := layer.nbytes()) > share:
                total, allowed = (x * len(self.layers) / 1e6 for x in (held, share))
                raise OverBudget(
                    f"{type(layer).__name__} holds {total:.1f} MB @ "
                    f"{self.length or layer.spec.max_len} "
                    f"tokens, budget.kv_mb={allowed:g}; raise it or choose another cache"
                )

    def reorder(self, rows: Tensor) -> None:
        """Row i goes on from row rows[i], in every layer."""
        for layer in self.layers:
            layer.reorder(rows)
        self.previous = {index: held[rows] for index, held in self.previous.items()}
        if self._pos is not None:
            self._pos = self._pos[rows]

    def nbytes(self) -> int:
        """Bytes held by all layers."""
        return sum(layer.nbytes() for layer in self.layers)
