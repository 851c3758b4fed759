"""Forward times of kernels, of whole attention and of the feed-forward net."""

# B batch, H heads, T time, d head width, D model width

import statistics
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity

from micro_transformer.bench import timing
from micro_transformer.nn.arch.base import Net
from micro_transformer.nn.context import Context
from micro_transformer.nn.kernels.base import Kernel
from micro_transformer.nn.kernels.manual import Manual
from micro_transformer.nn.kernels.sdpa import Sdpa
from micro_transformer.nn.masks import Mask
from micro_transformer.nn.visibility import CAUSAL

WARMUP = 2
KERNELS: dict[str, Callable[[], Kernel]] = {"manual": Manual, "sdpa": Sdpa}
Row = tuple[str, int, float, float]  # what, tokens, median ms, interquartile range in ms


def compare(model: Net, lengths: Sequence[int], device: str, repeats: int) -> Iterator[Row]:
    """Forward pass at batch size 1 for each length, with the net's widths:

    attention/*: softmax(q·k) v alone, causal, by hand and by torch; mhsa/*: projections, positions
    and output with each of them; ffn: the feed-forward net.
    """
    for length in lengths:
        for name, action in _actions(model.eval(), length, device).items():
            with torch.inference_mode():
                times = timing.seconds(action, device, repeats=repeats, warmup=WARMUP)
            yield name, length, 1e3 * statistics.median(times), 1e3 * (timing.spread(times) or 0)


def _actions(model: Net, length: int, device: str) -> dict[str, Callable[[], Tensor]]:
    dims, block = model.dims, model.blocks()[0]
    qkv = torch.randn(3, 1, dims.num_heads, length, dims.head_dim, device=device)
    x = torch.randn(1, length, dims.d_model, device=device)
    pos = torch.arange(length, device=device)
    mask = Mask(CAUSAL, pos, pos, (range(length), range(length)))
    context = Context(model.posenc, CAUSAL, pos, batch=1, num_heads=dims.num_heads, padded=False)

    def alone(make: Callable[[], Kernel]) -> Callable[[], Tensor]:
        kernel = make()
        return lambda: kernel(*qkv, mask, dims.head_dim**-0.5)

    def whole(make: Callable[[], Kernel]) -> Callable[[], Tensor]:
        def attend() -> Tensor:
            block.attention.kernel = kernel
            return block.attention(x, context, 0)

        kernel = make()
        return attend

    return {
        **{f"attention/{name}": alone(make) for name, make in KERNELS.items()},
        **{f"mhsa/{name}": whole(make) for name, make in KERNELS.items()},
        "ffn": lambda: block.ffn(x),
    }


def sdpa_backend(model: Net, length: int, device: str) -> str:
    """Name of the operation that torch's SDPA called, from the profiler."""
    action = _actions(model, length, device)["attention/sdpa"]
    with torch.inference_mode(), torch.profiler.profile(activities=activities(device)) as seen:
        action()
    names = [event.key for event in seen.key_averages()]
    inner = [name for name in names if name.startswith("aten::_scaled_dot_product_")]
    return inner[0].removeprefix("aten::_scaled_dot_product_") if inner else "unknown"


def activities(device: str) -> list[ProfilerActivity]:
    """Activities to profile; without a GPU torch would warn of CUDA."""
    gpu = [ProfilerActivity.CUDA] if device == "cuda" else []
    return [ProfilerActivity.CPU, *gpu]
