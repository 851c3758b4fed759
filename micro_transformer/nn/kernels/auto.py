"""Chooses the fastest kernel for device, dtype and length, by a measured rule."""

from collections.abc import Sequence

import torch
from torch import Tensor

from micro_transformer.nn.kernels.base import Kernel
from micro_transformer.nn.kernels.batched import Batched
from micro_transformer.nn.kernels.manual import Manual
from micro_transformer.nn.kernels.sdpa import Sdpa
from micro_transformer.nn.masks import PART, Mask
from micro_transformer.nn.online_softmax import Piece


class Auto(Kernel):
    """`Batched` for bf16 on a CPU with at most 512 keys, otherwise `Sdpa`.

    In that range SDPA takes 2.2 to 5.8 times as long, forward and backward. Over several segments:
    `Manual` for few scores, as one softmax takes half as many operations; otherwise online softmax.
    """

    takes_segments = True

    def __init__(self) -> None:
        super().__init__()
        self.batched, self.sdpa, self.manual = Batched(), Sdpa(), Manual()

    def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Mask, scale: float) -> Tensor:
        short = q.dtype == torch.bfloat16 and q.device.type == "cpu" and k.shape[2] <= 512
        if not short:
            return self.sdpa(q, k, v, mask, scale)
        self.note("batched")
        return self.batched(q, k, v, mask, scale)

    def over_segments(self, pieces: Sequence[Piece], scale: float) -> Tensor:
        _, heads, num_q, _ = pieces[0].q.shape
        num_k = sum(keys.stop - keys.start for _, keys, _ in pieces)
        few = heads * num_q * num_k <= PART
        kernel = self.manual if few else self.sdpa
        self.note("manual" if few else "online softmax")
        return kernel.over_segments(pieces, scale)
