"""What a mask hides costs nothing: scores are counted, forward and backward."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from micro_transformer.nn.kernels.base import attend
from micro_transformer.nn.masks import Mask
from micro_transformer.nn.visibility import CAUSAL, Padded, Visibility, Window, all_of
from tests.conftest import build, make_cache, random_ids, tiny_decoder

LENGTH, WIDTH = 2048, 128


class Scores(TorchDispatchMode):
    """Counts query-key pairs of attention, and the most numbers in one tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.pairs = self.largest = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        out = func(*args, **(kwargs or {}))
        tensors = [x for x in (out if isinstance(out, tuple) else (out,)) if isinstance(x, Tensor)]
        self.largest = max([self.largest, *(x.numel() for x in tensors)])
        if "scaled_dot_product" in str(func):
            q, k = args[:2] if "backward" not in str(func) else args[1:3]
            self.pairs += q.shape[2] * k.shape[2]
        elif str(func) == "aten.baddbmm.default" or (
            str(func) == "aten.bmm.default" and out.shape[-1] > args[0].shape[-1]  # q·k
        ):
            self.pairs += out.shape[-2] * out.shape[-1]
        return out


@pytest.mark.parametrize("kernel", ["auto", "blockwise", "sdpa"])
@pytest.mark.parametrize("pads", [False, True])
def test_a_window_costs_what_it_shows(kernel: str, pads: bool) -> None:
    """Linear in the length: a window of 1/16 of the keys computes less than 1/4 of the scores."""
    window: Visibility = all_of(CAUSAL, Window(WIDTH))
    pos = torch.arange(LENGTH)
    mask = Mask(
        Padded(window) if pads else window,
        pos[None] if pads else pos,
        pos[None] if pads else pos,
        (range(LENGTH), range(LENGTH)),
    )
    qkv = torch.randn(3, 1, 1, LENGTH, 8, requires_grad=True).unbind()  # (B, H, T, d) each
    attention = build("attention", kernel)
    if kernel == "blockwise":
        attention.block = WIDTH
    with Scores() as seen:
        out = attention(*qkv, mask, 0.3)
        forward = seen.pairs
        out.sum().backward()
    assert 0 < forward < LENGTH**2 / 4
    assert seen.pairs <= 3.5 * forward
    assert seen.largest < LENGTH**2 / 8


@pytest.mark.parametrize("cache", ["contiguous", "paged", "paged_int8", "paged_offload"])
def test_a_step_of_decoding_reads_the_window_only(
    cache: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, ids = tiny_decoder(pattern="sliding"), random_ids(1, 41)
    store, lengths = make_cache(cache, net, 1), []

    def spy(kernel: Any, queries: Any, segments: Any, *rest: Any) -> Tensor:
        lengths.append(sum(s.stop - s.start for s in segments))
        return attend(kernel, queries, segments, *rest)

    monkeypatch.setattr("micro_transformer.nn.attention.attend", spy)
    with torch.inference_mode():
        net(ids[:, :40], store)
        net(ids[:, 40:], store)
    assert lengths[:2] == [40, 40]
    assert all(5 <= length < 5 + 2 * 4 for length in lengths[2:])  # within blocks of 4
