"""The linear layer used throughout the net, and the vocabulary head."""

from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from micro_transformer.nn.parameter_kinds import TABLE

LARGE = 2**17  # weights from which a product with a packed copy is faster
PACKED = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


class Linear(nn.Linear):
    """x W^T + b; without gradients on a CPU, as in decoding, faster than torch.nn.Linear.

    For one row W is read at 18 GB/s by an elementwise product and a sum, at 11 GB/s by torch's
    matrix-vector product (8 layers of width 288, one thread: 1.75 and 2.9 ms). More rows multiply a
    copy of a large W in oneDNN's blocked layout: 0.4 to 0.9 of the time of torch's product for 2 to
    300 rows (288 x 1152, two threads, AVX-512). The copy is made when first used, is made again
    when W has changed, and is dropped in training mode; while it exists W is in memory twice.
    """

    _packed: tuple[tuple[int, int], Tensor] | None = None  # (state of W, its copy)

    def forward(self, x: Tensor) -> Tensor:
        """(..., in_features) -> (..., out_features)."""
        if torch.is_grad_enabled() or x.device.type != "cpu" or not self._is_plain(x):
            return F.linear(x, self.weight, self.bias)
        rows = x.numel() // self.in_features
        if rows == 1:
            return one_row(self.weight, x, self.bias)
        if not PACKED or rows == 0 or self.weight.numel() < LARGE:
            return F.linear(x, self.weight, self.bias)
        return torch.ops.mkldnn._linear_pointwise(x, self._copy(rows), self.bias, "none", [], "")

    def train(self, mode: bool = True) -> Self:
        if mode:
            self._packed = None
        return super().train(mode)

    def __getstate__(self) -> dict[str, Any]:
        """Without the copy: its layout is that of this machine."""
        return {**self.__dict__, "_packed": None}

    def _is_plain(self, x: Tensor) -> bool:
        """Whether the product is one of float32 matrices, with nothing in between, and a change of
        W can be seen: weights made in inference mode do not count their changes."""
        is_float = x.dtype == self.weight.dtype == torch.float32 and not self.weight.is_inference()
        return is_float and not (torch.is_autocast_enabled("cpu") or torch.compiler.is_compiling())

    def _copy(self, rows: int) -> Tensor:
        """W in the layout for about this number of rows."""
        state = self.weight._version, self.weight.data_ptr()
        if self._packed is None or self._packed[0] != state:
            weight = self.weight.detach()
            self._packed = state, torch.ops.mkldnn._reorder_linear_weight(weight, rows)
        return self._packed[1]


def one_row(weight: Tensor, x: Tensor, bias: Tensor | None = None) -> Tensor:
    """(out_features, in_features), (..., in_features) with one row -> (..., out_features)."""
    # (in_features,), then (..., out_features)
    out = torch.linalg.vecdot(weight, x.view(-1)).view(*x.shape[:-1], -1)
    return out if bias is None else out + bias


class VocabularyHead(Linear):
    """Logits of every token; W has one row per token, as the embedding that it may be tied to."""

    kinds = {"weight": TABLE}
