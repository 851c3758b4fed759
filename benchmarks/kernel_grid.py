"""How far attention=auto is from the fastest kernel over a grid of shapes, on a CPU.

    python benchmarks/kernel_grid.py [--rounds 7] [--threads 2] [--points 0]
    ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 python benchmarks/kernel_grid.py

The grid: batches of 2048 tokens in texts of 64 to 2048 (causal, ALiBi, sliding 512, left pads), for
models of 4 heads of 32 and 8 of 64, in fp32 and bf16, forward and with backward; and decoding
steps of 1 and 8 rows over 128 to 8192 keys, in one segment and in segments of 256. Kernels run in
turn, in random order; a point's figure is the median time of auto over the least median of the
others; points of less than 6 ms have three times the rounds. A point beyond 1.10 is measured once
more, in a process of its own with three times the rounds, and the second figure counts: auto often
calls the very kernel that it is compared with, and differs from it by noise and by what earlier
points left to the allocator. A kernel that takes twice as long as another
in the first round is left out. Exits 1 if fewer than 95 % of the points are within 1.10, or
one is beyond 1.25. --points N takes N of them at random. Run it alone on the machine.
"""

import argparse
import itertools
import json
import multiprocessing
import random
import statistics
import sys
import time
from typing import NamedTuple

import torch

from micro_transformer.config.components import make
from micro_transformer.config.schema import read_choice
from micro_transformer.nn.cache.base import Segment
from micro_transformer.nn.context import SharedMasks
from micro_transformer.nn.dims import Dims
from micro_transformer.nn.kernels.base import attend
from micro_transformer.nn.posenc.alibi import ALiBi
from micro_transformer.nn.visibility import CAUSAL, Window, all_of

KERNELS = ("auto", "manual", "sdpa", "batched", "blockwise")
NEAR, FAR, SHARE = 1.10, 1.25, 0.95
TOKENS, PAD, HOPELESS, SLICE_S, SHORT = 2048, 5, 2.0, 0.006, 3
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
HEADS = ((4, 32), (8, 64))


class Point(NamedTuple):
    """One shape: num_q queries of each of `rows` texts, over num_k keys."""

    what: str
    dtype: str
    heads: int
    head_dim: int
    rows: int
    num_q: int
    num_k: int
    block: int | None = None  # keys per segment; None: one segment
    backward: bool = False


def grid():
    texts = itertools.product(
        ("causal", "alibi", "window", "pads"),
        DTYPES,
        HEADS,
        (64, 128, 256, 512, 1024, 2048),
        (False, True),
    )
    for what, dtype, heads, length, backward in texts:
        if what != "window" or length > 512:
            rows = TOKENS // length
            yield Point(what, dtype, *heads, rows, length, length, backward=backward)
    steps = itertools.product(
        ("causal", "alibi"), DTYPES, HEADS, (1, 8), (128, 512, 2048, 8192), (None, 256)
    )
    for what, dtype, heads, rows, length, block in steps:
        if block is None or length > block:
            yield Point(what, dtype, *heads, rows, 1, length, block)


def action(point, name, qkv):
    """Runs the kernel as the net does, masks made anew."""
    kernel = make("attention", read_choice("attention", name))
    sizes = {"num_heads": point.heads, "batch": point.rows}
    dims = Dims(2, 2, d_model=point.heads * 8, num_layers=1, num_heads=point.heads)
    posenc = ALiBi(dims) if point.what == "alibi" else None
    visibility = all_of(CAUSAL, Window(512)) if point.what == "window" else CAUSAL
    k_pos = torch.arange(point.num_k)
    if point.what == "pads":
        k_pos = (k_pos - torch.arange(point.rows)[:, None] % 2 * PAD).clamp(min=-1)
    q_pos = k_pos[..., -point.num_q :]
    width = point.block or point.num_k
    starts = range(0, point.num_k, width)

    def run():
        q, k, v = qkv
        padded = point.what == "pads"
        masks = SharedMasks(visibility, q_pos, k_pos, padded=padded, posenc=posenc, **sizes)
        segments = [Segment(s, k[:, :, s : s + width], v[:, :, s : s + width]) for s in starts]
        return attend(kernel, lambda view: q, segments, masks, 0.125, point.heads)

    def with_backward():
        torch.autograd.grad(run().sum(), qkv)

    def forward():
        with torch.inference_mode():
            run()

    return with_backward if point.backward else forward


def seconds(call, times=1):
    started = time.perf_counter()
    for _ in range(times):
        call()
    return (time.perf_counter() - started) / times


def measured(point, rounds):
    """name -> seconds per round, of kernels that are not hopeless."""
    torch.manual_seed(0)
    shapes = [
        (point.rows, point.heads, n, point.head_dim) for n in (point.num_q, *2 * [point.num_k])
    ]
    qkv = [torch.randn(s, dtype=DTYPES[point.dtype]) for s in shapes]
    qkv = [x.requires_grad_(point.backward) for x in qkv]
    names = [name for name in KERNELS if name != "sdpa" or point.block is None]
    calls = {name: action(point, name, qkv) for name in names}
    for call in calls.values():
        call()
    first = {name: seconds(call) for name, call in calls.items()}
    best = min(first.values())
    calls = {n: c for n, c in calls.items() if n == "auto" or first[n] < HOPELESS * best}
    times = max(1, round(SLICE_S / best))
    found = {name: [] for name in calls}
    draw = random.Random(0)
    for _ in range(rounds if times == 1 else SHORT * rounds):
        for name in draw.sample(list(calls), len(calls)):
            found[name].append(seconds(calls[name], times))
    return found


def alone(point, rounds, threads):
    """As `measured`, in a new process."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1, torch.set_num_threads, (threads,)) as pool:
        return pool.apply(measured, (point, rounds))


def of_auto(found):
    """Ratio of auto to the fastest of the others, and the medians in seconds."""
    medians = {name: statistics.median(each) for name, each in found.items()}
    others = [median for name, median in medians.items() if name != "auto"]
    return medians["auto"] / min(others, default=medians["auto"]), medians


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--points", type=int, default=0)
    parser.add_argument("--what", nargs="*", help="causal, alibi, window, pads; default: all")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    points = [p for p in grid() if not asked.what or p.what in asked.what]
    if asked.points:
        points = random.Random(0).sample(points, asked.points)
    figures = []
    for point in points:
        ratio, medians = of_auto(measured(point, asked.rounds))
        if ratio > NEAR:
            ratio, medians = of_auto(alone(point, SHORT * asked.rounds, asked.threads))
        figures.append(ratio)
        if ratio > NEAR:
            ms = {name: round(1e3 * median, 3) for name, median in medians.items()}
            print(json.dumps({**point._asdict(), "ratio": round(ratio, 2), "ms": ms}), flush=True)
    near = sum(ratio <= NEAR for ratio in figures) / len(figures)
    print(f"{len(figures)} points, {torch.backends.cpu.get_cpu_capability()}: {near:.1%} within "
          f"{NEAR}, must {SHARE:.0%}; the farthest {max(figures):.2f}, must {FAR}")  # fmt: skip
    sys.exit(not (near >= SHARE and max(figures) <= FAR))


if __name__ == "__main__":
    main()
