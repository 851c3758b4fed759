"""Attention over several segments: as exact as over one, by every kernel in its own way."""

import itertools
from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from micro_transformer.nn.cache.base import Segment
from micro_transformer.nn.context import SharedMasks
from micro_transformer.nn.kernels.base import attend
from micro_transformer.nn.visibility import CAUSAL
from tests.conftest import build, facts, make_cache, members, random_ids, tiny_decoder

T, D = 2048, 8
SCALE = D**-0.5
NUM_Q = 2  # the last ones
KERNELS, CACHES = members("attention"), members("cache")


def inputs(dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Uniform scores and values of one sign: the worst case for a running sum."""
    q, k = 0.1 * torch.randn(1, 4, NUM_Q, D), 0.1 * torch.randn(1, 4, T, D)
    return q.to(dtype), k.to(dtype), (torch.randn(1, 4, T, D) + 1).to(dtype)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("kernel", KERNELS)
def test_many_segments_are_as_exact_as_few(kernel: str, dtype: torch.dtype) -> None:
    """Segments are added in float32 or wider: the error does not grow with their number."""
    q, k, v = inputs(dtype)
    scores = q.double() @ k.double().mT * SCALE
    scores[:, :, 0, -1] = float("-inf")
    exact = scores.softmax(-1) @ v.double()
    pos = torch.arange(T)
    masks = SharedMasks(CAUSAL, pos[-NUM_Q:], pos, num_heads=4, batch=1, padded=False)

    def error(block: int) -> float:
        starts = range(0, T, block)
        segments = [Segment(s, k[:, :, s : s + block], v[:, :, s : s + block]) for s in starts]
        out = attend(build("attention", kernel), lambda view: q, segments, masks, SCALE, 4)
        assert out.dtype == dtype
        return ((out.double() - exact).norm() / exact.norm()).item()

    few = error(T // 2)
    assert few < 8 * torch.finfo(dtype).eps
    for block in (256, 16, 3, 1):
        assert error(block) < 1.5 * few + 5e-6, block


class Operations(TorchDispatchMode):
    """Counts operations by name and shape of the result."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[tuple[str, tuple[int, ...]]] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        out = func(*args, **(kwargs or {}))
        shape = tuple(out.shape) if isinstance(out, Tensor) else ()
        self.counts[str(func), shape] += 1
        return out


def operations(kernel: str, cache: str) -> Counter[tuple[str, tuple[int, ...]]]:
    torch.manual_seed(0)
    net, ids = tiny_decoder(attention=kernel), random_ids(1, 19)
    store = make_cache(cache, net, 1)
    with torch.inference_mode():
        net(ids[:, :-1], store)
        with Operations() as seen:
            net(ids[:, -1:] if store.stores else ids, store)
    return seen.counts


@pytest.mark.parametrize("cache", CACHES)
def test_cells_that_claim_different_kernels_count_different_operations(cache: str) -> None:
    """Each once ran the same code where a cache has several segments.

    Auto claims no kernel; one that does not take segments is invalid there, flash on a CPU. The
    operation of flex is one that a dispatch mode cannot see.
    """
    claimed = [
        kernel
        for kernel in KERNELS
        if kernel not in ("auto", "flex")
        and facts("attention", kernel)["package"] is None
        and (facts("attention", kernel)["takes_segments"] or not facts("cache", cache)["segmented"])
    ]
    assert len(claimed) >= 3
    counted = {kernel: operations(kernel, cache) for kernel in claimed}
    for one, other in itertools.combinations(claimed, 2):
        assert counted[one] != counted[other], f"{one} is {other}"


@pytest.mark.parametrize("cache", CACHES)
def test_a_cache_says_whether_it_has_several_segments(
    cache: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("micro_transformer.nn.cache.paged.EXTENDED", 2)
    net, most = tiny_decoder(), 0
    store = make_cache(cache, net, 1)
    layer = store.layers[0]
    segments = layer.segments

    def spy(wanted: Any) -> Any:
        nonlocal most
        found = segments(wanted)
        most = max(most, len(found))
        return found

    layer.segments = spy  # type: ignore[method-assign]
    with torch.inference_mode():
        for token in random_ids(1, 19).split(1, 1):
            net(token, store)
    assert (most > 1) == facts("cache", cache)["segmented"]


@pytest.mark.parametrize("cache", [c for c in CACHES if facts("cache", c)["segmented"]])
def test_hooks_on_weights_see_all_segments(cache: str) -> None:
    net, seen = tiny_decoder(attention="manual"), []
    net.blocks()[0].attention.kernel.weights.register_forward_hook(
        lambda module, args, out: seen.append(out)
    )
    store = make_cache(cache, net, 1)
    with torch.inference_mode():
        net(random_ids(1, 18), store)
        net(random_ids(1, 1), store)
    assert [w.shape[2] for w in seen] == [18, 1]
    for weights in seen:
        torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:3]))
