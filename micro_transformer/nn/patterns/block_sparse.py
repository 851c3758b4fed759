"""Block-sparse attention: a window, global blocks and random blocks."""

from functools import cache

import numpy as np
import torch
from torch import Tensor

from micro_transformer.config.knobs import Count, Size
from micro_transformer.nn.patterns.base import Pattern
from micro_transformer.nn.visibility import ALL, NONE, SOME, Coverage
from micro_transformer.seeds import stream

# B batch, H heads, T tokens (Tq queries, Tk keys)

MOST = 2**13  # blocks; of longer texts nothing is known in advance


class BlockSparse(Pattern):
    """BigBird's pattern for causal nets (Zaheer et al., 2020, section 2).

    Texts are cut into blocks of `block` tokens. A query sees its own block and the `window_blocks`
    before it, the first `global_blocks` blocks, and `random_blocks` of the others before it, drawn
    per block of queries from `seed`, which is that of the pattern: every run has the same. It is
    joined with causality, so queries of a global block see what is before them, no more.
    """

    gaps = True
    block: int

    def __init__(
        self,
        *,
        block: Count,
        window_blocks: Size,
        global_blocks: Size,
        random_blocks: Size,
        seed: Size,
    ):
        self.block, self.window_blocks = block, window_blocks
        self.global_blocks, self.random_blocks, self.seed = global_blocks, random_blocks, seed
        self._table = np.zeros((0, 0), dtype=bool)

    def visible(self, b: Tensor, h: Tensor, q_pos: Tensor, k_pos: Tensor) -> Tensor:
        q, k = (pos.clamp(min=0) // self.block for pos in (q_pos, k_pos))
        table = self._blocks(1 + int(torch.maximum(q.max(), k.max())))
        return torch.from_numpy(table).to(k_pos.device)[q, k]

    def coverage(self, q: range, k: range) -> Coverage:
        rows, columns = self._span(q), self._span(k)
        num = max(rows.stop, columns.stop)
        if num > MOST:
            return SOME
        part = self._blocks(num)[rows, columns]
        return ALL if part.all() else SOME if part.any() else NONE

    def ranges(self, q: range, k: range) -> list[range]:
        columns = self._span(k)
        part = self._blocks(max(self._span(q).stop, columns.stop))[self._span(q), columns]
        starts = (np.flatnonzero(part.any(0)) + columns.start) * self.block
        return [
            range(max(start, k.start), min(start + self.block, k.stop)) for start in starts.tolist()
        ]

    def _span(self, positions: range) -> slice:
        return slice(positions[0] // self.block, positions[-1] // self.block + 1)

    def _blocks(self, num: int) -> np.ndarray:
        """(n, n) with n >= num: whether a block of queries sees a block of keys."""
        if num > len(self._table):
            size = max(num, 2 * len(self._table))
            numbers = (self.window_blocks, self.global_blocks, self.random_blocks, self.seed)
            self._table = _table(size, *numbers)
        return self._table


@cache
def _table(num: int, window: int, global_blocks: int, random_blocks: int, seed: int) -> np.ndarray:
    """(num, num) booleans; blocks after a query's own are visible here, as causality hides them."""
    row, column = np.ogrid[:num, :num]
    seen = (row - column <= window) | (column < global_blocks)
    for each in range(num):
        others = np.arange(global_blocks, max(global_blocks, each - window))
        if len(others):
            draw = np.random.default_rng(stream(seed, "block", each))
            seen[each, draw.permutation(others)[:random_blocks]] = True
    return seen
