"""Speed and memory ratios between caches at model=8m on a CPU, interleaved in one process.

    python benchmarks/cache_speed.py [--parts decode int8 offload story] [--rounds 40]

decode: tokens/s of every cache at context 2048 over no cache and over the contiguous one; also of
the paged cache with a shuffled block table. int8: bytes at 8192 tokens over those of fp32.
offload: time of a step at 32768 tokens over the time to copy the same bytes. story: which caches
reach 32768 tokens under budget.kv_mb=64, and their resident memory beyond that at 2048. Run it
alone on the machine.
"""

import argparse
import json
import os
import random
import statistics
import tempfile
import time

import torch

from micro_transformer import memory
from micro_transformer.build import measuring, training
from micro_transformer.config.resolve import resolve
from micro_transformer.generation import ModelStep
from micro_transformer.nn.cache.base import Cache, CacheSpec, OverBudget
from micro_transformer.runs.planning import make_plan

VOCAB, CONTEXT, LONG, SHORT = 256, 2048, 32768, 2048
BUDGET_MB = 64
CACHES = ("contiguous", "paged", "paged_int8", "paged_offload")


def config(cache, *words):
    (job,) = make_plan(["model=8m", "device=cpu", f"cache={cache}", *words]).jobs
    return resolve(job.config)


def net():
    class Bytes:
        vocab_size = num_outputs = VOCAB

    torch.manual_seed(0)
    return training.build_model(config("contiguous"), Bytes()).eval()


def filled(model, cache, length, extra, *words):
    """A step whose cache holds random keys and values of `length` tokens."""
    step = ModelStep(model, measuring.cache_maker(config(cache, *words)), max_len=length + extra)
    step.cache = empty(model, cache, length + extra, *words)
    fill(step.cache, model, length)
    return step


def fill(held, model, length):
    for start in range(0, length, 1024):
        pos = torch.arange(start, min(start + 1024, length))
        for layer in held.layers:
            shape = (1, model.dims.num_heads, len(pos), model.dims.head_dim)
            layer.append(torch.randn(shape), torch.randn(shape), pos)
        held.advance(pos, pos)


def empty(model, cache, max_len, *words):
    dims = model.dims
    spec = CacheSpec(1, dims.num_heads, dims.head_dim, max_len, torch.float32, torch.device("cpu"))
    return Cache.make(measuring.cache_maker(config(cache, *words)), spec, dims.num_layers)


def shuffled(model, length, extra):
    """As `filled`, the blocks of each layer anywhere in its pool."""
    step = filled(model, "paged", length, extra)
    step.cache = step.cache.reset()
    for layer in step.cache.layers:
        random.Random(0).shuffle(layer.free)
    fill(step.cache, model, length)
    return step


def seconds(action):
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def summary(values):
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return {"median": round(middle, 3), "quartiles": [round(low, 3), round(high, 3)]}


def decode(model, rounds):
    """A round is one token of every cache; ratios are taken per round."""
    steps = {cache: filled(model, cache, CONTEXT, rounds + 4) for cache in CACHES}
    steps["paged, shuffled"] = shuffled(model, CONTEXT, rounds + 4)
    token, text = torch.tensor([[7]]), torch.randint(1, VOCAB, (1, CONTEXT))
    times = {cache: [] for cache in (*steps, "none")}
    for turn in range(rounds + 2):
        for cache, step in steps.items():
            times[cache].append(seconds(lambda: step(token)))  # noqa: B023
        if turn % 8 == 0:
            times["none"].append(seconds(lambda: model.logits(model.hidden(text)[:, -1])))
    uncached = statistics.median(times["none"][1:])
    base = times["contiguous"]
    return {
        "ms a token": {c: summary([1e3 * t for t in ts[1:]]) for c, ts in times.items()},
        "speed over no cache": {c: summary([uncached / t for t in times[c][2:]]) for c in steps},
        "speed over contiguous": {
            c: summary([a / b for a, b in zip(base[2:], times[c][2:], strict=True)])
            for c in steps
            if c != "contiguous"
        },
    }


def int8(model, rounds):
    """Bytes of all layers over those of the same tokens in fp32."""
    sizes = {c: filled(model, c, 8192, 0).cache.nbytes() for c in ("contiguous", "paged_int8")}
    return {**sizes, "share": round(sizes["paged_int8"] / sizes["contiguous"], 4)}


def offload(model, rounds):
    """Time of a step over that of reading the bytes it loads, from the same kind of file."""
    step, token = filled(model, "paged_offload", LONG, rounds), torch.tensor([[7]])
    layers = step.cache.layers
    before = sum(layer.traffic().transferred_bytes for layer in layers)
    step(token)
    brought = sum(layer.traffic().transferred_bytes for layer in layers) - before
    room = torch.empty(layers[0].portion * layers[0].token_nbytes() // 2, dtype=torch.uint8)
    with tempfile.TemporaryFile() as file:
        for _ in range(brought // len(room)):
            file.write(room.numpy())
        file.flush()
        view = memoryview(room.numpy())

        def copy():
            for index in range(brought // len(room)):
                os.preadv(file.fileno(), [view], index * len(room))

        copy()
        pairs = [(seconds(copy), seconds(lambda: step(token))) for _ in range(rounds // 8)]
    return {
        "MB a token": brought / 1e6,
        "copy GB/s": summary([brought / 1e9 / copied for copied, _ in pairs]),
        "ms a token": summary([1e3 * stepped for _, stepped in pairs]),
        "speed over the limit set by copying": summary([c / s for c, s in pairs]),
    }


def story(model, rounds):
    """Which caches reach 32768 tokens in 64 MB, and the resident memory after eight more."""
    found = {}
    for cache in ("paged_offload", *CACHES[:3]):
        resident = {}
        for length in (SHORT, LONG):
            memory.reset_peak()
            try:
                step = filled(model, cache, length, 16, f"budget.kv_mb={BUDGET_MB}")
                for _ in range(8):
                    step(torch.tensor([[7]]))
            except OverBudget as error:
                resident[length] = f"{error.status}: {error}"
                continue
            resident[length] = memory.peak_rss_bytes() / 1e6
            del step
        found[cache] = resident
    few, many = (found["paged_offload"][n] for n in (SHORT, LONG))
    return {**found, "offload, MB of RSS beyond those at 2048": round(many - few, 1)}


PARTS = {"decode": decode, "int8": int8, "offload": offload, "story": story}


@torch.inference_mode()
def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--rounds", type=int, default=40)
    asked = parser.parse_args()
    model = net()
    for part in asked.parts:
        print(json.dumps({part: PARTS[part](model, asked.rounds)}, indent=1), flush=True)


if __name__ == "__main__":
    main()
