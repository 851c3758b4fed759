"""What a training step costs with each adapter at model=8m, against full fine-tuning, in turn.

    python benchmarks/adapter_speed.py [--rounds 15] [--vocab 256] [--precision auto fp32]

A step is forward, backward and AdamW (or `--optimizer muon`) on 8 rows of 128 random tokens, by the
trainer's own code; the prompt's vectors come on top. Weights are random. The rise of memory is that
of the first two steps of each arm, in a process of its own. Run it alone on the machine.
"""

import argparse
import dataclasses
import json
import multiprocessing
import random
import statistics
import time

import torch

from micro_transformer.bench.peak_memory import peak_of
from micro_transformer.build import training
from micro_transformer.config.resolve import resolve
from micro_transformer.config.schema import choices_of, read_choice
from micro_transformer.data.tokenizer import FIRST
from micro_transformer.data.windows import Windows
from micro_transformer.runs.planning import make_plan
from micro_transformer.tasks.token_prediction import TokenPrediction
from micro_transformer.training.step import TrainingStep

FULL, MOST, AIM = "none", 0.8, 0.65


class RandomTokens(TokenPrediction):
    def __init__(self, vocab):
        self.vocab = vocab

    vocab_size = num_outputs = property(lambda self: self.vocab)

    def train_batch(self, seed, step, batch_size, context, device="cpu"):
        draw = torch.Generator().manual_seed(step)
        ids = torch.randint(FIRST, self.vocab, (batch_size, context + 1), generator=draw)
        return Windows(ids[:, :-1], ids[:, 1:])


def stepper(adapter, asked):
    words = ["model=8m", "device=cpu", f"train.optimizer={asked.optimizer}", *asked.words]
    (job,) = make_plan([*words, f"train.precision={asked.precision}", "eval=none"]).jobs
    config = resolve(job.config) | {"adapter": read_choice("adapter", adapter)}
    config["train"] |= {"threads": asked.threads, "batch_size": asked.batch, "weight_decay": 0.1}
    config["train"] |= {"context": asked.context}
    task, recipe = RandomTokens(asked.vocab), training.recipe(config)
    net = training.adapted(training.build_model(config, task), config)
    step = TrainingStep(net, task, dataclasses.replace(recipe), seed=0, device="cpu")
    numbers = iter(range(1 << 30))
    return net, lambda: step(next(numbers))


def in_turn(calls, rounds):
    """name -> seconds per round, in random order, after two rounds that do not count."""
    found, draw = {name: [] for name in calls}, random.Random(0)
    for _ in range(rounds + 2):
        for name in draw.sample(list(calls), len(calls)):
            started = time.perf_counter()
            calls[name]()
            found[name].append(time.perf_counter() - started)
    return {name: each[2:] for name, each in found.items()}


def rise_of(adapter, asked):
    """MB that two steps need beyond the net itself."""
    torch.set_num_threads(asked.threads)
    _net, step = stepper(adapter, asked)
    _peak, rise, _vram = peak_of(lambda: (step(), step()), "cpu")
    return round(1e3 * rise)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--vocab", type=int, default=256)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--context", type=int, default=128)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--optimizer", default="adamw")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("words", nargs="*", help="of the configuration, such as arch=decoder")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    nets = {name: stepper(name, asked) for name in choices_of("adapter")}
    times = in_turn({name: step for name, (_net, step) in nets.items()}, asked.rounds)
    for name, (net, _step) in nets.items():
        each = [a / b for a, b in zip(times[name], times[FULL], strict=True)]
        trained = sum(p.numel() for p in net.parameters() if p.requires_grad)
        row = {
            "adapter": name,
            "trained": trained,
            "share": round(trained / sum(p.numel() for p in net.parameters()), 4),
            "ms": round(1e3 * statistics.median(times[name]), 1),
            "of_full": [round(x, 3) for x in (statistics.median(each), min(each), max(each))],
        }
        print(json.dumps(row), flush=True)
    print(f"of_full: median, least and most over rounds; must {MOST}, aim {AIM}", flush=True)
    for name in nets:
        with multiprocessing.get_context("spawn").Pool(1) as process:
            rise = process.apply(rise_of, (name, asked))
        print(f"{name}: {rise} MB beyond the net", flush=True)


if __name__ == "__main__":
    main()
