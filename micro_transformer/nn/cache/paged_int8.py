"""Blocks of a byte a number."""

from torch import Tensor

from micro_transformer.config.knobs import Count
from micro_transformer.nn.cache.base import AS_IS, CacheSpec, Segment
from micro_transformer.nn.cache.compacting import CompactingCache
from micro_transformer.nn.cache.int8 import Quantized


class Bytes(Segment):
    """A block, filled group by group; its keys and values are computed each time they are asked."""

    def __init__(self, start: int, size: int, group: int, spec: CacheSpec):
        self.start = self.stop = start
        self.view, self.group, self.dtype = AS_IS, group, spec.dtype
        shape = (spec.batch, spec.num_heads, size // group, group, spec.head_dim)
        self.keys = Quantized(shape, -2, spec.device)  # a scale a channel and group of tokens
        self.values = Quantized(shape, -1, spec.device)  # a scale a token and head

    def put(self, k: Tensor, v: Tensor) -> None:
        """A group (B, H, group, d) comes after those held."""
        self.keys.put(self._groups, k)
        self.values.put(self._groups, v)
        self.stop += self.group

    @property
    def k(self) -> Tensor:  # type: ignore[override]
        """(B, H, n, d), within scale / 2 of what was put."""
        return self.keys.get(self._groups, self.dtype)

    @property
    def v(self) -> Tensor:  # type: ignore[override]
        """(B, H, n, d), within scale / 2 of what was put."""
        return self.values.get(self._groups, self.dtype)

    def reorder(self, rows: Tensor) -> None:
        """Row i holds what row rows[i] held."""
        self.keys.reorder(rows)
        self.values.reorder(rows)

    def tensors(self) -> tuple[Tensor, ...]:
        """All that is held."""
        return self.keys.tensors() + self.values.tensors()

    @property
    def _groups(self) -> int:
        return (self.stop - self.start) // self.group


class PagedInt8(CompactingCache):
    """Keys and values in a byte each, but for the newest (KIVI: Liu et al., 2024).

    Outliers of keys stay in their channels, those of values in their tokens: so keys have a scale
    for a channel and `group` tokens, values for a token and head. A channel's scale can be known
    only when its group is whole: `residual` tokens at most wait as they came, and when they are so
    many the oldest group goes into a block. Held: |x - x'| <= scale / 2, scale = range / 255 of
    what shares it, or a little more far from 0, as scale and zero are in half precision (see
    Quantized); a score moves by sum_d |q_d| scale_d / 2 at most. One block at a time is computed
    back. A reorder copies.
    """

    exact = False
    logit_error = 0.05  # at most, over the standard deviation of logits, in the laws

    def __init__(self, spec: CacheSpec, *, block: Count, group: Count, residual: Count):
        self.block, self.group = block, group
        super().__init__(spec, newest=residual, portion=group)

    def reset(self) -> None:
        super().reset()
        self.blocks: list[Bytes] = []

    def pack(self, k: Tensor, v: Tensor) -> None:
        start = self.blocks[-1].stop if self.blocks else 0
        if start % self.block == 0:
            spec = self.spec._replace(batch=len(k))
            self.blocks.append(Bytes(start, self.block, self.group, spec))
        self.blocks[-1].put(k, v)

    def packed(self, first: int) -> list[Segment]:
        return list(self.blocks[first // self.block :])

    def reorder(self, rows: Tensor) -> None:
        super().reorder(rows)
        for block in self.blocks:
            block.reorder(rows)

    def nbytes(self) -> int:
        held = [tensor for block in self.blocks for tensor in block.tensors()]
        passing = sum(s.k.nbytes + s.v.nbytes for s in self._passing)
        return self._tail.nbytes() + sum(t.untyped_storage().nbytes() for t in held) + passing

    def predicted_nbytes(self, tokens: int) -> int:
        blocks = -(-self.packed_tokens(tokens) // self.block)
        return self.newest * self.token_nbytes() + self._packed_nbytes(blocks * self.block)

    def used_nbytes(self) -> int:
        packed = self._packed_nbytes(self._tail.start)
        return packed + self._tail.length * self.token_nbytes()

    def _packed_nbytes(self, tokens: int) -> int:
        """A byte a number; 4 for each scale and its zero, of a channel's group and of a token."""
        spec, groups = self.spec, tokens // self.group
        numbers = 2 * tokens * spec.head_dim
        return spec.batch * spec.num_heads * (numbers + 4 * (groups * spec.head_dim + tokens))
