"""Keys and values of a source, computed once and read by every step of a decoder."""

from collections.abc import Sequence

import torch
from torch import Tensor

from micro_transformer.nn.context import Context, SharedMasks
from micro_transformer.nn.visibility import EVERYTHING

# B rows of the batch, N sources, w rows per source, H heads of queries, G heads of keys and values,
# T tokens of the target, S tokens of the source, d head_dim


class Memory:
    """What a decoder reads of its sources. `reorder` returns another one, which may take over the
    tensors of this one: this must not be read again.

    layers: keys and values of each decoder layer, (N, G, S, d) each. pos: (N, S), -1 at pads.
    rows: (B,), the source of each row of the batch; None: row i reads source i. Where each source
    serves equally many rows in a row, as in beam search, these are further queries of one source,
    and no key is copied; otherwise keys are copied, once per change of rows.
    """

    def __init__(
        self,
        layers: Sequence[tuple[Tensor, Tensor]],
        pos: Tensor,
        rows: Tensor | None = None,
    ):
        self.layers, self.pos = layers, pos
        self.rows = torch.arange(len(pos), device=pos.device) if rows is None else rows
        self.per_source = 1 if rows is None else _equal_share(rows.tolist(), len(pos))
        self._layers, self._pos = layers, pos  # as they are read
        if not self.per_source:
            self.per_source = 1
            self._layers = [(k[self.rows], v[self.rows]) for k, v in layers]
            self._pos = pos[self.rows]
        self._masks: tuple[int, SharedMasks] | None = None

    def reorder(self, rows: Tensor) -> "Memory":
        """New row i is old row rows[i]; sources that no row reads any more are dropped."""
        rows = self.rows[rows]
        if torch.equal(rows, self.rows):
            return self
        used, rows = rows.unique(return_inverse=True)
        if len(used) == len(rows):  # a source per row
            return self._one_each(used[rows])
        if len(used) == len(self.pos):
            return Memory(self.layers, self.pos, rows)
        return Memory([(k[used], v[used]) for k, v in self.layers], self.pos[used], rows)

    def _one_each(self, sources: Tensor) -> "Memory":
        """Row i reads source sources[i], all different; a source that keeps its place is not
        copied."""
        moved = (sources != torch.arange(len(sources), device=sources.device)).nonzero()[:, 0]

        def taken(x: Tensor) -> Tensor:
            x[moved] = x[sources[moved]]
            return x[: len(sources)]

        return Memory([(taken(k), taken(v)) for k, v in self.layers], taken(self.pos))

    def layer(self, index: int) -> tuple[Tensor, Tensor]:
        """Keys and values (N, G, S, d) of decoder layer `index`, for queries as from `gather`."""
        return self._layers[index]

    def gather(self, q: Tensor) -> Tensor:
        """(B, H, T, d) -> (N, H, w·T, d): the rows of a source as queries of one row."""
        if self.per_source == 1:
            return q
        # (N, w, H, T, d), then (N, H, w, T, d), then (N, H, w·T, d)
        return q.unflatten(0, (-1, self.per_source)).transpose(1, 2).flatten(2, 3)

    def spread(self, out: Tensor) -> Tensor:
        """(N, H, w·T, d) -> (B, H, T, d), the inverse of `gather`."""
        if self.per_source == 1:
            return out
        # (N, H, w, T, d), then (N, w, H, T, d), then (B, H, T, d)
        return out.unflatten(2, (self.per_source, -1)).transpose(1, 2).flatten(0, 1)

    def masks(self, num_queries: int, num_heads: int) -> SharedMasks:
        """Those of so many queries per source, each of which sees all of it but the pads.

        No bias: positions of two texts have no distance. Kept for the next step.
        """
        if self._masks is None or self._masks[0] != num_queries:
            made = SharedMasks(
                EVERYTHING,
                torch.arange(num_queries, device=self._pos.device),
                self._pos,
                num_heads=num_heads,
                batch=len(self._pos),
                padded=True,
            )
            self._masks = (num_queries, made)
        return self._masks[1]

    def real(self) -> Tensor:
        """(N, S): True at the tokens that are not pads, for queries as from `gather`."""
        return self._pos >= 0


class SourceContext(Context):
    """The context of a forward pass of a decoder that reads a source."""

    memory: Memory


def _equal_share(rows: list[int], num_sources: int) -> int:
    """w where rows are w times 0, then w times 1, ... to the last source; 0 where they are not."""
    share = len(rows) // num_sources if num_sources else 1
    return share if rows == [n for n in range(num_sources) for _ in range(share)] else 0
