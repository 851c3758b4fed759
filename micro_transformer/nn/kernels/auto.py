"""Chooses the fastest kernel for device, dtype, lengths and mask, by a measured rule."""

from collections.abc import Sequence

import torch
from torch import Tensor

from micro_transformer import instruction_sets
from micro_transformer.nn.kernels.batched import Batched
from micro_transformer.nn.kernels.sdpa import Sdpa
from micro_transformer.nn.masks import PART, JoinedMask, Mask
from micro_transformer.nn.online_softmax import Piece
from micro_transformer.nn.visibility import ALL

# B batch, H heads, Tq queries, Tk keys, d head_dim

FEW = 16  # queries per row: fewer are a step of decoding, or a group that shares its keys
# Keys up to which two batched products are faster than SDPA, for texts. Where SDPA needs a mask
# tensor it loses most of its lead.
PURE, MASKED = 64, 128
PURE_BF16, MASKED_BF16 = 512, 2048
# For a step of decoding without a mask: keys from which they are faster in bf16; in fp32, keys and
# B · H from which they are, and B · H from which they are for any keys.
STEP_BF16, STEP_LONG, STEP_WIDE, STEP_BATCH = 512, 2048, 32, 256
SCORES = 2**25  # B · H · Tq · Tk, beyond which they would need too much memory


class Auto(Sdpa):
    """On a CPU `Batched` for short texts and for steps of decoding under a mask, otherwise `Sdpa`.

    The rule is fitted to benchmarks/kernel_grid.py, with and without products of bf16 in hardware:
    emulated ones take 10 to 20 times as long, so there bf16 runs by SDPA. Over several
    segments: `Batched` for few scores, otherwise online softmax.
    """

    takes_segments = True

    def __init__(self) -> None:
        super().__init__()
        self.batched = Batched()
        self.has_bf16 = instruction_sets.have_bf16()

    def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Mask, scale: float) -> Tensor:
        if not prefers_products(q, k, mask, self.has_bf16):
            return super().forward(q, k, v, mask, scale)
        if "batched" not in self.ran:
            self.note("batched")
        return self.batched(q, k, v, mask, scale)

    def _masked(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Mask | JoinedMask, scale: float
    ) -> Tensor:
        """A slice of the queries."""
        if not prefers_products(q, k, mask, self.has_bf16):
            return super()._masked(q, k, v, mask, scale)
        self.note("batched")
        return self.batched(q, k, v, mask, scale)  # type: ignore[arg-type]

    def over_segments(self, pieces: Sequence[Piece], scale: float) -> Tensor:
        _, heads, num_q, _ = pieces[0].q.shape
        few = heads * num_q * sum(keys.stop - keys.start for _, keys, _ in pieces) <= PART
        self.note("batched" if few else "online softmax")
        return (
            self.batched.over_segments(pieces, scale)
            if few
            else super().over_segments(pieces, scale)
        )


def prefers_products(q: Tensor, k: Tensor, mask: Mask | JoinedMask, has_bf16: bool) -> bool:
    """Whether `Batched` is faster than `Sdpa` for q (B, H, Tq, d), k (B, H, Tk, d) and this mask,
    and its scores are few enough to be kept. has_bf16: the CPU multiplies bf16 in hardware."""
    batch, heads, num_q, _d = q.shape
    num_k = k.shape[2]
    if not q.is_cpu or batch * heads * num_q * num_k > SCORES:
        return False
    is_narrow = q.dtype == torch.bfloat16
    if is_narrow and not has_bf16:
        return False
    is_masked = mask.posenc is not None or not (mask.coverage is ALL or mask.pure_causal)
    if num_q < FEW:
        if is_narrow:
            scores = batch * heads * num_k
            is_long = num_k >= STEP_BF16 and scores > 4 * STEP_BF16
            return is_long or (is_masked and scores > STEP_BF16)
        width = batch * heads
        return is_masked or width >= STEP_BATCH or (num_k >= STEP_LONG and width >= STEP_WIDE)
    if is_masked and (isinstance(mask, JoinedMask) or len(mask.slices()) == 1):
        return num_k <= (MASKED_BF16 if is_narrow else MASKED)
    return num_k <= (PURE_BF16 if is_narrow else PURE)
