"""Kernels and patterns of attention at one length: time and memory, in turn, in one process.

    python benchmarks/attention_speed.py [--length 8192] [--rounds 7] [--slopes]

Batch 1, 8 heads of 64, fp32. `causal` is torch's SDPA with is_causal=True, `dense window` and
`dense sparse` the same with a dense mask. The window is 512 tokens; block_sparse shows 1/8 of
what causal attention shows at the default length. A figure is the median over rounds of the ratio
within a round, with the least and the greatest. Memory is the peak beyond inputs and gradients,
in a process of its own. Last the whole net of 1m, which scores a text of the length (hidden states
of all tokens, float32) with ALiBi and with RoPE. --slopes adds the log-log slope of time and memory
over 1k to 16k tokens.
Exits 1 if a must of MUSTS is missed. Run it alone on the machine.
"""

import argparse
import json
import math
import multiprocessing
import statistics
import sys
import time

import torch
import torch.nn.functional as F

from micro_transformer import memory
from micro_transformer.build import training
from micro_transformer.config.components import make
from micro_transformer.config.resolve import resolve
from micro_transformer.config.schema import read_choice
from micro_transformer.nn.dims import Dims
from micro_transformer.nn.masks import Mask
from micro_transformer.nn.patterns.block_sparse import BlockSparse
from micro_transformer.nn.posenc.alibi import ALiBi
from micro_transformer.nn.visibility import CAUSAL, Window, all_of
from micro_transformer.runs.planning import make_plan

HEADS, HEAD_DIM = 8, 64
SCALE = HEAD_DIM**-0.5
WINDOW = all_of(CAUSAL, Window(512))
# 4 and 8 blocks of 128: 1/8 of the scores of causal attention, and 1/4, at 8192 tokens
FEW = {"block": 128, "global_blocks": 1, "seed": 0}
SPARSE = all_of(CAUSAL, BlockSparse(window_blocks=1, random_blocks=1, **FEW))
DENSER = all_of(CAUSAL, BlockSparse(window_blocks=3, random_blocks=3, **FEW))
ALIBI = ALiBi(Dims(2, 2, d_model=HEADS * HEAD_DIM, num_layers=1, num_heads=HEADS))
DENSE = {"dense window": WINDOW, "dense sparse": SPARSE}
OURS = {  # name -> (kernel, visibility, positional encoding)
    "sdpa": ("sdpa", CAUSAL, None),
    "sdpa, alibi": ("sdpa", CAUSAL, ALIBI),
    "blockwise": ("blockwise", CAUSAL, None),
    "sdpa, window": ("sdpa", WINDOW, None),
    "auto, window": ("auto", WINDOW, None),
    "blockwise, window": ("blockwise", WINDOW, None),
    "sdpa, block_sparse": ("sdpa", SPARSE, None),
    "sdpa, block_sparse, twice as dense": ("sdpa", DENSER, None),
    "manual": ("manual", CAUSAL, None),
}
TIMED = ("causal", *DENSE, *(name for name in OURS if name != "manual"))
# (way, faster, slower, least ratio of times); aims: 4.5 and 3 for the window
MUSTS = (
    ("forward", "sdpa, window", "causal", 3.0),
    ("forward", "sdpa, window", "dense window", 6.0),
    ("with backward", "sdpa, window", "causal", 2.0),
    ("forward", "sdpa, block_sparse", "causal", 2.5),
    ("forward", "sdpa, alibi", "sdpa", 1 / 1.5),
)
MOST_ALIBI = 1.5  # time of the whole net over that with RoPE
LEAN = ("sdpa", "blockwise")  # forward: at most 1/50 of the memory of manual
SLOPED = ("sdpa, window", "sdpa, block_sparse")
LENGTHS, STEEPEST = (1024, 2048, 4096, 8192, 16384), 1.3


def attention(name, length):
    """q, k, v -> output; the mask is formed at each call, as at each forward pass."""
    columns = range(length)
    if name == "causal":
        return lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=SCALE)
    if name in DENSE:

        def torch_masked(q, k, v):
            mask = Mask.between(DENSE[name], columns, columns).dense()
            return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=SCALE)

        return torch_masked
    choice, visibility, posenc = OURS[name]
    kernel, pos = make("attention", read_choice("attention", choice)), torch.arange(length)

    def ours(q, k, v):
        sides, sizes = (columns, columns), {"num_heads": HEADS, "posenc": posenc}
        return kernel(q, k, v, Mask(visibility, pos, pos, sides, **sizes), SCALE)

    return ours


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


def times(way, names, length, rounds):
    """name -> seconds per round; kernels in turn, the first round dropped."""
    qkv = inputs(length)
    actions = {name: attention(name, length) for name in names}
    found = {name: [] for name in names}
    for _ in range(rounds + 1):
        for name, action in actions.items():
            found[name].append(seconds(way, action, qkv))
    return {name: each[1:] for name, each in found.items()}


def net_times(length, rounds):
    """posenc -> seconds per round in which an untrained net of 1m reads a text, in turn."""

    class Bytes:
        vocab_size = num_outputs = 256

    ids, nets = torch.randint(1, 256, (1, length)), {}
    for posenc in ("rope", "alibi"):
        (job,) = make_plan([f"posenc={posenc}", "device=cpu", "train.precision=fp32"]).jobs
        nets[posenc] = training.build_model(resolve(job.config), Bytes()).eval()
    found = {posenc: [] for posenc in nets}
    with torch.inference_mode():
        for _ in range(rounds + 1):
            for posenc, net in nets.items():
                started = time.perf_counter()
                net.hidden(ids)
                found[posenc].append(time.perf_counter() - started)
    return {posenc: each[1:] for posenc, each in found.items()}


def peak_mb(way, name, length, threads):
    """Peak memory beyond the inputs, in MB."""
    torch.set_num_threads(threads)
    WAYS[way](attention(name, 256), inputs(256))  # what torch allocates once
    qkv, action = inputs(length), attention(name, length)
    memory.reset_peak()
    before = memory.rss_bytes()
    WAYS[way](action, qkv)
    return round((memory.peak_rss_bytes() - before) / 1e6, 1)


def ratios(slower, faster):
    """Median, least and greatest over rounds."""
    each = [a / b for a, b in zip(slower, faster, strict=True)]
    return [round(x, 2) for x in (statistics.median(each), min(each), max(each))]


def slope(lengths, values):
    """Of a straight line through the logarithms."""
    fit = statistics.linear_regression(list(map(math.log, lengths)), list(map(math.log, values)))
    return round(fit.slope, 2)


def verdict(text, is_met):
    print(f"{text}: {'met' if is_met else 'MISSED'}", flush=True)
    return is_met


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--length", type=int, default=8192)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--slopes", action="store_true")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    taken = {way: times(way, TIMED, asked.length, asked.rounds) for way in WAYS}
    for way, found in taken.items():
        table = {
            name: {
                "ms": round(1e3 * statistics.median(each), 1),
                "speed over causal": ratios(found["causal"], each),
            }
            for name, each in found.items()
        }
        print(json.dumps({way: table}, indent=1), flush=True)
    met = []
    for way, faster, slower, least in MUSTS:
        ratio = ratios(taken[way][slower], taken[way][faster])
        said = f"{way}: {faster} is {ratio} times as fast as {slower}, must {least:.2f}"
        met.append(verdict(said, ratio[0] >= least))
    scored = net_times(asked.length, asked.rounds)
    ratio = ratios(scored["alibi"], scored["rope"])
    said = f"net of 1m: alibi takes {ratio} times as long as rope, must {MOST_ALIBI}"
    met.append(verdict(said, ratio[0] <= MOST_ALIBI))
    pool = multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1)
    with pool:

        def peak(name, length=asked.length, way="forward"):
            return pool.apply(peak_mb, (way, name, length, asked.threads))

        peaks = {name: peak(name) for name in ("causal", *DENSE, *OURS)}
        print(json.dumps({"forward, peak MB": peaks}, indent=1), flush=True)
        for name in LEAN:
            said = f"{name} takes 1/{peaks['manual'] / peaks[name]:.0f} of the memory of manual"
            met.append(verdict(said, peaks[name] * 50 <= peaks["manual"]))
        for name in SLOPED if asked.slopes else ():
            each = [statistics.median(times("forward", [name], n, 3)[name]) for n in LENGTHS]
            mbs = [peak(name, n, "with backward") for n in LENGTHS]
            found = slope(LENGTHS, each), slope(LENGTHS, mbs)
            said = f"{name}: slopes of time and memory {found}, {mbs} MB"
            met.append(verdict(said, max(found) < STEEPEST))
    sys.exit(not all(met))


if __name__ == "__main__":
    main()
