"""Base classes of key-value caches. A cache is an argument of forward, never part of a module."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from micro_transformer.nn.visibility import EVERYTHING, Everything, Visibility, Wanted
from micro_transformer.records.run_record import MEMORY_BUDGET, OOM
from micro_transformer.wording import _

SHARED = 128  # columns, from which those that all rows share are read once, in a product of its own

# B rows of the batch, H heads, T new tokens, n tokens of a segment, d head_dim.
# Column = index of a token in its row, pads included; its position leaves out the pads, so it may
# be smaller and differ by row.


class CacheSpec(NamedTuple):
    """Sizes, dtype and device of one layer's keys and values."""

    batch: int
    num_heads: int
    head_dim: int
    max_len: int  # tokens per row
    dtype: torch.dtype
    device: torch.device
    budget_bytes: int | None = None  # limit on the layer's memory; None: no limit


class OverBudget(Exception):
    """A cache needs more memory than its budget; deterministic, so a retry is pointless."""

    status = OOM
    flags = (MEMORY_BUDGET,)


@dataclass(frozen=True)
class QueryView(Everything):
    """How queries see a segment: a visibility joined with the net's, and their positions.

    Equal views share masks and rotations.
    """

    def q_pos(self, pos: Tensor) -> Tensor:
        """Positions of the queries relative to this segment's keys, from true positions pos."""
        return pos

    def columns(self, q: range) -> range | None:
        """`q_pos` of consecutive positions q; None if they are not consecutive after it."""
        return q


AS_IS = QueryView()


class Segment:
    """Keys and values (B, H, n, d) of the columns start to stop - 1.

    shared: (1, H, n, d), which all rows of the batch share. equal: leading columns in which all
    rows are known to be equal.
    """

    shared, equal = False, 0

    def __init__(
        self, start: int, k: Tensor, v: Tensor, view: QueryView = AS_IS, *, shared: bool = False
    ):
        self.start, self.stop = start, start + k.shape[2]
        self.k, self.v, self.view, self.shared = k, v, view, shared

    def parts(self) -> "list[Segment]":
        """The columns that all rows share, and the others, if enough are shared to read them apart;
        otherwise this segment."""
        n = self.equal
        if n < SHARED:
            return [self]
        k, v = self.k[:1, :, :n], self.v[:1, :, :n]
        trunk = Segment(self.start, k, v, self.view, shared=True)
        if trunk.stop == self.stop:
            return [trunk]
        return [trunk, Segment(trunk.stop, self.k[:, :, n:], self.v[:, :, n:], self.view)]


class ScatteredSegment(Segment):
    """Keys and values (B or 1, H, n, d) whose columns are in any order, for one query per row.

    columns (n,), or (B, n) where they differ by row: -1 at slots that hold none; those that are not
    written yet are past the last column. name: equal for equal columns, which share a mask.
    """

    def __init__(
        self, k: Tensor, v: Tensor, columns: Tensor, name: Hashable, *, shared: bool = False
    ):
        super().__init__(0, k, v, shared=shared)
        self.columns, self.name = columns, name


@dataclass
class Traffic:
    """Bytes offloaded from the device, and bytes moved in both directions so far."""

    host_bytes: int = 0  # in CPU memory, for a net on a GPU
    file_bytes: int = 0
    transfers: int = 0  # each of one block's keys or values
    transferred_bytes: int = 0


class CacheLayer:
    """Keys and values of one attention layer."""

    stores = True  # False: nothing is kept between calls, so each call needs the whole sequence
    segmented = False  # True: `segments` may give several, and a kernel that cannot take them joins
    exact = True  # outputs equal those without a cache; False: as the class docstring says
    visibility: Visibility = EVERYTHING  # joined with the net's: which of the keys are still there

    def __init__(self, spec: CacheSpec):
        self.spec = spec

    def append(self, k: Tensor, v: Tensor, pos: Tensor) -> None:
        """k, v (B, H, T, d) of tokens at positions pos (T,) or (B, T) follow the cached ones."""
        raise NotImplementedError

    def segments(self, wanted: Wanted) -> Sequence[Segment]:
        """Segments with the columns that the last appended queries want; others may be omitted."""
        raise NotImplementedError

    def end_forward(self) -> None:
        """Called after the forward pass: keys that no later query can see may be dropped."""

    def reorder(self, rows: Tensor) -> None:
        """New row i is old row rows[i]: the batch shrinks or grows to len(rows)."""
        raise NotImplementedError

    def reset(self) -> None:
        """The layer is empty, with the batch size of its spec."""
        raise NotImplementedError

    def nbytes(self) -> int:
        """Bytes of memory allocated."""
        raise NotImplementedError

    def predicted_nbytes(self, tokens: int) -> int:
        """`nbytes` with `tokens` tokens in every row, computed from sizes alone."""
        raise NotImplementedError

    def used_nbytes(self) -> int:
        """Bytes of `nbytes` occupied by tokens; the rest is fragmentation or work space."""
        raise NotImplementedError

    def traffic(self) -> Traffic:
        """Offloaded bytes and transfers; zeros for a cache that offloads nothing."""
        return Traffic()

    def token_nbytes(self) -> int:
        """Bytes of one column: key and value of one token in every row, unquantized."""
        spec = self.spec
        return 2 * spec.batch * spec.num_heads * spec.head_dim * spec.dtype.itemsize


class Cache:
    """The key-value cache of all layers, with the positions of its tokens.

    length: tokens per row so far, pads included. planned_len: final length, known in advance.
    previous: by layer index, a tensor (B, ...) of the last token for use by the next one
    (key_shift).
    """

    def __init__(self, layers: list[CacheLayer], planned_len: int = 0):
        self.layers, self.planned_len = layers, planned_len
        self.stores = all(layer.stores for layer in layers)
        self.length = 0
        self.batch = layers[0].spec.batch if layers else 0
        self.previous: dict[int, Tensor] = {}
        self._pos: Tensor | None = None  # (B, length), set once positions differ by row

    @classmethod
    def make(
        cls, make_layer: Callable[[CacheSpec], CacheLayer], spec: CacheSpec, num_layers: int
    ) -> "Cache":
        """An empty cache. Error: OverBudget if its initial allocation passes the budget."""
        cache = cls([make_layer(spec) for _ in range(num_layers)], spec.max_len)
        cache.check_budget()
        return cache

    def reset(self) -> "Cache":
        """An empty cache that reuses the memory of this one; this one must not be used again."""
        for layer in self.layers:
            layer.reset()
        return Cache(self.layers, self.planned_len)

    @property
    def plain(self) -> bool:
        """Positions equal columns in every row: no pads so far."""
        return self._pos is None

    def layer(self, index: int) -> CacheLayer:
        """The cache layer of block `index`."""
        return self.layers[index]

    def positions(self, num_tokens: int, device: torch.device) -> Tensor:
        """Positions of the next num_tokens tokens: (T,), or (B, T) once positions differ by row."""
        new = torch.arange(num_tokens, device=device)
        if self._pos is None:
            return self.length + new
        return self._pos.amax(-1, keepdim=True) + 1 + new

    def k_pos(self, pos: Tensor) -> Tensor:
        """Positions of all columns, cached ones and then pos: (n,) or (B, n)."""
        if self.length == 0 or not self.stores:
            return pos
        if self._pos is None and pos.ndim == 1:
            return torch.arange(self.length + len(pos), device=pos.device)
        held = self._pos
        if held is None:
            held = torch.arange(self.length, device=pos.device).expand(len(pos), -1)
        return torch.cat((held, pos), 1)

    def advance(self, pos: Tensor, k_pos: Tensor) -> None:
        """Counts the tokens at pos as cached, after every layer has run; k_pos: as from `k_pos`.

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
        """Error: OverBudget if a layer's memory exceeds its budget; it names the length reached."""
        for layer in self.layers:
            share = layer.spec.budget_bytes
            if share is not None and (held := layer.nbytes()) > share:
                total, allowed = (x * len(self.layers) / 1e6 for x in (held, share))
                raise OverBudget(
                    _(
                        "{cache} takes {total} MB @ {length} tokens, "
                        "budget.kv_mb={allowed}; raise it or choose another cache",
                        cache=type(layer).__name__,
                        total=f"{total:.1f}",
                        length=self.length or layer.spec.max_len,
                        allowed=f"{allowed:g}",
                    )
                )

    def reorder(self, rows: Tensor) -> None:
        """New row i is old row rows[i], in every layer; nothing is done if all rows stay."""
        if rows.tolist() == list(range(self.batch)):
            return
        self.batch = len(rows)
        for layer in self.layers:
            layer.reorder(rows)
        self.previous = {index: held[rows] for index, held in self.previous.items()}
        if self._pos is not None:
            self._pos = self._pos[rows]

    def nbytes(self) -> int:
        """Bytes of memory allocated by all layers."""
        return sum(layer.nbytes() for layer in self.layers)
