"""A sliding window against full causal attention: time and memory, kernels in turn, one process.

    python benchmarks/sliding_window_speed.py [--length 8192] [--window 512] [--rounds 7]

Batch 1, 8 heads of 64, fp32. `causal` is torch's SDPA with is_causal=True, `masked` the same with a
dense mask of the window. Musts at the defaults on two threads, of the kernel sdpa: at least 2 times
as fast as causal forward, 1.5 times with backward, and in forward at most a quarter of the memory
of masked. A figure is the median over rounds of the ratio within a round, with the least and the
greatest. Memory is the peak beyond inputs and gradients, in a process of its own. Run it alone on
the machine.
"""

import argparse
import json
import multiprocessing
import statistics
import time

import torch
import torch.nn.functional as F

from micro_transformer import memory
from micro_transformer.config.components import make
from micro_transformer.config.schema import read_choice
from micro_transformer.nn.masks import Mask
from micro_transformer.nn.visibility import CAUSAL, Window, all_of

HEADS, HEAD_DIM = 8, 64
SCALE = HEAD_DIM**-0.5
KERNELS = ("sdpa", "auto", "blockwise")
NAMES = ("causal", "masked", *KERNELS)
MUST = {"forward": 2.0, "with backward": 1.5}


def attention(name, length, width):
    """q, k, v -> output; the mask is formed at each call, as at each forward pass."""
    window, columns = all_of(CAUSAL, Window(width)), range(length)

    def torch_causal(q, k, v):
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=SCALE)

    def torch_masked(q, k, v):
        mask = Mask.between(window, columns, columns).dense()
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=SCALE)

    def ours(q, k, v):
        return kernel(q, k, v, Mask.between(window, columns, columns), SCALE)

    if name in KERNELS:
        kernel = make("attention", read_choice("attention", name))
        return ours
    return {"causal": torch_causal, "masked": torch_masked}[name]


def forward(action, qkv):
    with torch.inference_mode():
        action(*qkv)


def with_backward(action, qkv):
    torch.autograd.grad(action(*qkv).sum(), qkv)


WAYS = {"forward": forward, "with backward": with_backward}


def inputs(length):
    torch.manual_seed(0)
    return torch.randn(3, 1, HEADS, length, HEAD_DIM).requires_grad_().unbind()


def seconds(way, action, qkv):
    started = time.perf_counter()
    WAYS[way](action, qkv)
    return time.perf_counter() - started


def times(way, asked):
    """name -> seconds per round; kernels in turn, the first round dropped."""
    qkv = inputs(asked.length)
    actions = {name: attention(name, asked.length, asked.window) for name in NAMES}
    found = {name: [] for name in NAMES}
    for _ in range(asked.rounds + 1):
        for name, action in actions.items():
            found[name].append(seconds(way, action, qkv))
    return {name: each[1:] for name, each in found.items()}


def peak_mb(way, name, length, width, threads):
    """Peak memory beyond the inputs, in MB."""
    torch.set_num_threads(threads)
    short = inputs(256)
    WAYS[way](attention(name, 256, 64), short)  # what torch allocates once
    qkv, action = inputs(length), attention(name, length, width)
    memory.reset_peak()
    before = memory.rss_bytes()
    WAYS[way](action, qkv)
    return round((memory.peak_rss_bytes() - before) / 1e6, 1)


def spread(values):
    return [round(x, 2) for x in (statistics.median(values), min(values), max(values))]


def measure(way, asked):
    found = times(way, asked)
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        sizes = (asked.length, asked.window, asked.threads)
        peaks = {name: pool.apply(peak_mb, (way, name, *sizes)) for name in NAMES}
    return {
        name: {
            "ms": spread([1e3 * t for t in found[name]]),
            "speed over causal": spread(
                [a / b for a, b in zip(found["causal"], found[name], strict=True)]
            ),
            "peak MB": peaks[name],
        }
        for name in NAMES
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--length", type=int, default=8192)
    parser.add_argument("--window", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    for way, must in MUST.items():
        found = measure(way, asked)
        print(json.dumps({way: found}, indent=1), flush=True)
        fast = found["sdpa"]["speed over causal"][0] >= must
        small = way != "forward" or found["sdpa"]["peak MB"] <= found["masked"]["peak MB"] / 4
        print(f"{way}: {'met' if fast and small else 'MISSED'} (speed {must}, memory)", flush=True)


if __name__ == "__main__":
    main()
