"""Paged cache quantized to 8 bits per value."""

from torch import Tensor

from micro_transformer.config.knobs import Count
from micro_transformer.nn.cache.base import AS_IS, CacheSpec, Segment
from micro_transformer.nn.cache.compacting import CompactingCache
from micro_transformer.nn.cache.quantization import Quantized
from micro_transformer.nn.visibility import Wanted

# B batch, H heads, n tokens of a segment, d head_dim


class Bytes(Segment):
    """A quantized block, filled group by group; each access to k or v dequantizes."""

    def __init__(self, start: int, size: int, group: int, spec: CacheSpec):
        self.start = self.stop = start
        self.view, self.group, self.dtype = AS_IS, group, spec.dtype
        shape = (spec.batch, spec.num_heads, size // group, group, spec.head_dim)
        self.keys = Quantized(shape, -2, spec.device)  # one scale per channel and group of tokens
        self.values = Quantized(shape, -1, spec.device)  # one scale per token and head

    def put(self, k: Tensor, v: Tensor) -> None:
        """Quantizes the next group, k and v (B, H, group, d)."""
        self.keys.put(self._groups, k)
        self.values.put(self._groups, v)
        self.stop += self.group

    @property
    def k(self) -> Tensor:  # type: ignore[override]
        """(B, H, n, d), within scale / 2 of the keys given to `put`."""
        return self.keys.get(self._groups, self.dtype)

    @property
    def v(self) -> Tensor:  # type: ignore[override]
        """(B, H, n, d), within scale / 2 of the values given to `put`."""
        return self.values.get(self._groups, self.dtype)

    def reorder(self, rows: Tensor) -> None:
        """New row i is old row rows[i]."""
        self.keys.reorder(rows)
        self.values.reorder(rows)

    def tensors(self) -> tuple[Tensor, ...]:
        """Codes, scales and zeros of keys and values."""
        return self.keys.tensors() + self.values.tensors()

    @property
    def _groups(self) -> int:
        return (self.stop - self.start) // self.group


class PagedInt8(CompactingCache):
    """8-bit keys and values, except for the most recent tokens (KIVI: Liu et al., 2024).

    Outliers of keys are confined to channels, so keys have one scale per channel and `group`
    tokens; values have one per token and head. The scale of a channel needs its whole group: up to
    `residual` recent tokens are unquantized, and when they reach that number the oldest group is
    quantized. Error: |x - x'| <= scale / 2, scale = (max - min) / 255 of the values that share it,
    slightly more far from 0, as scale and zero are float16 (see Quantized); so a score q·k changes
    by at most sum_d |q_d| scale_d / 2. Blocks are dequantized one at a time; reorder copies.
    """

    exact = False
    relations = (("block", "multiple_of", "group"), ("residual", "at_least", "group"))
    logit_error = 0.05  # largest logit error over the standard deviation of logits, as tested

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

    def packed(self, wanted: Wanted) -> list[Segment]:
        return [self.blocks[n] for n in wanted.blocks(self.block) if n < len(self.blocks)]

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
        packed = self._packed_nbytes(blocks * self.block, self.spec.batch)
        return self.newest * self.token_nbytes() + packed

    def used_nbytes(self) -> int:
        recent = self._tail.columns()
        packed = self._packed_nbytes(self._tail.start, len(recent[0]))
        return packed + sum(held.nbytes for held in recent)

    def _packed_nbytes(self, tokens: int, rows: int) -> int:
        """1 byte per value, 4 per scale and zero: per channel and group, and per token and head."""
        spec, groups = self.spec, tokens // self.group
        numbers = 2 * tokens * spec.head_dim
        return rows * spec.num_heads * (numbers + 4 * (groups * spec.head_dim + tokens))
