"""What runs on CUDA alone: kernels and caches there, against float64 on the CPU."""

import pytest
import torch

from micro_transformer.nn.cache.base import Cache, CacheSpec
from micro_transformer.nn.masks import Mask
from micro_transformer.nn.visibility import CAUSAL, Padded, Window, all_of
from tests.conftest import build, facts, members, random_ids, tiny_decoder, tiny_dims

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]
B, H, T, D = 2, 4, 300, 32
KERNELS = [name for name in members("attention") if name != "flash"]
TOLERANCE = {torch.float32: 2e-5, torch.bfloat16: 0.03, torch.float16: 4e-3}


def masks(device: str) -> dict[str, Mask]:
    """Causal, a window, left pads, and ALiBi."""
    row, sides = torch.arange(T, device=device), (range(T), range(T))
    padded = torch.stack((row - 9, row)).clamp(min=-1)
    alibi = build("posenc", "alibi", tiny_dims()).to(device)
    return {
        "causal": Mask(CAUSAL, row, row, sides),
        "window": Mask(all_of(CAUSAL, Window(64)), row, row, sides),
        "padded": Mask(Padded(CAUSAL), padded, padded, batch=B),
        "alibi": Mask(CAUSAL, row, row, sides, num_heads=H, posenc=alibi),
    }


def kernel_of(name: str) -> torch.nn.Module:
    """As users run it: flex compiled."""
    from micro_transformer.config.components import make
    from micro_transformer.config.schema import read_choice

    return make("attention", read_choice("attention", name)).eval()


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("mask", ["causal", "window", "padded", "alibi"])
@pytest.mark.parametrize("kernel", KERNELS)
def test_kernels_agree_with_the_cpu_in_float64(kernel: str, mask: str, dtype: torch.dtype) -> None:
    """Forward and backward; fully masked queries, those of pads, included."""
    q, k, v = torch.randn(3, B, H, T, D, dtype=torch.float64)
    inputs = [x.to("cuda", dtype).requires_grad_() for x in (q, k, v)]
    exact = [x.detach().double().cpu().requires_grad_() for x in inputs]
    expected = build("attention", "manual")(*exact, masks("cpu")[mask], D**-0.5)
    out = kernel_of(kernel)(*inputs, masks("cuda")[mask], D**-0.5)
    assert out.dtype == dtype
    torch.testing.assert_close(out.double().cpu(), expected, rtol=0, atol=TOLERANCE[dtype])
    ours = torch.autograd.grad(out.double().sum(), inputs)
    for gradient, right in zip(ours, torch.autograd.grad(expected.sum(), exact), strict=True):
        assert gradient.isfinite().all()
        bound = 10 * TOLERANCE[dtype] * right.abs().max().item()
        torch.testing.assert_close(gradient.double().cpu(), right, rtol=0, atol=bound)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("mask", ["causal", "window", "padded"])
def test_the_flash_attn_package_agrees(mask: str, dtype: torch.dtype) -> None:
    pytest.importorskip("flash_attn")
    q, k, v = torch.randn(3, B, H, T, D, device="cuda", dtype=dtype)
    kernel, oracle = kernel_of("flash"), kernel_of("manual")
    out, expected = (each(q, k, v, masks("cuda")[mask], D**-0.5) for each in (kernel, oracle))
    torch.testing.assert_close(out, expected, rtol=0, atol=TOLERANCE[dtype])
    assert ("flash_attn" in kernel.ran) == (mask == "causal")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_sdpa_says_which_backend_ran(dtype: torch.dtype) -> None:
    """In half precision without a mask tensor it is a fused one, not math."""
    q, k, v = torch.randn(3, B, H, T, D, device="cuda", dtype=dtype)
    kernel = kernel_of("sdpa")
    kernel(q, k, v, masks("cuda")["causal"], D**-0.5)
    assert kernel.ran and kernel.ran <= {"sdpa flash", "sdpa efficient", "sdpa cudnn"}


@pytest.mark.parametrize("kv_heads", [None, 1])
@pytest.mark.parametrize("cache", members("cache"))
@torch.inference_mode()
def test_caches_decode_as_on_the_cpu(cache: str, kv_heads: int | None) -> None:
    """Offloaded blocks go to pinned memory here, to a file there."""
    net, ids = tiny_decoder(num_kv_heads=kv_heads), random_ids(2, 23)

    def logits(device: str) -> torch.Tensor:
        net.to(device)
        spec = CacheSpec(2, net.dims.kv_heads, net.dims.head_dim, 64, torch.float32, net.device)
        held = Cache.make(lambda s: build("cache", cache, s), spec, net.dims.num_layers)
        parts = ids.to(device).split([9, *[1] * 14], 1)
        if not held.stores:
            return net(ids.to(device), held).cpu()
        return torch.cat([net(part, held) for part in parts], 1).cpu()

    expected, ours = logits("cpu"), logits("cuda")
    share = facts("cache", cache).get("logit_error")
    allowed = 2e-4 if share is None else share * expected.std().item()
    torch.testing.assert_close(ours, expected, rtol=0, atol=allowed)


@torch.inference_mode()
def test_offloaded_blocks_are_in_pinned_memory() -> None:
    spec = CacheSpec(1, 4, 8, 64, torch.float32, torch.device("cuda"))
    layer = build("cache", "paged_offload", spec)
    for _ in range(12):
        layer.append(*torch.randn(2, 1, 4, 1, 8, device="cuda"), torch.arange(1, device="cuda"))
        layer.end_forward()
    assert layer.traffic().host_bytes > 0 and layer.traffic().file_bytes == 0
    assert all(block.is_pinned() for block in layer._depot.tier._blocks)
