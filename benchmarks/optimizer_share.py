"""Share of the optimizer in a training step: torch's Muon, ours unstacked, ours stacked.

    python benchmarks/optimizer_share.py [--rounds 7] [--sizes quick 8m]
    ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 python benchmarks/optimizer_share.py

quick: the default net and recipe; 8m: the same recipe on 8 texts of 256 tokens. A round is one step
of each optimizer, in turn, on its own net: forward and backward, then the optimizers. The second
line imitates an AVX2 machine, where torch's Muon takes minutes. Run it alone on the machine.
"""

import argparse
import json
import statistics
import time

import torch

from micro_transformer import instruction_sets
from micro_transformer.build import training
from micro_transformer.config.resolve import resolve
from micro_transformer.runs.planning import make_plan
from micro_transformer.seeds import make_deterministic
from micro_transformer.training import muon
from micro_transformer.training.optimizers import DTYPES, Optimizers

SIZES = {"quick": [], "8m": ["model=8m", "train.context=256"]}
VOCAB = 70


class OneByOne(muon.Muon):
    """Our Muon without stacking."""

    def step(self, closure=None):
        """Every matrix is updated, each by its own product."""
        for group in self.param_groups:
            everything = group["params"]
            for p in everything:
                group["params"] = [p]
                super().step()
            group["params"] = everything


class Torchs(torch.optim.Muon):
    """torch's Muon, which has no dtype."""

    def __init__(self, params, *, lr, weight_decay, dtype):
        super().__init__(params, lr=lr, weight_decay=weight_decay)


KINDS = {"torch.optim.Muon": Torchs, "ours, one by one": OneByOne, "ours": muon.Muon}


class Stepper:
    """A net and its optimizers; each call is a step and returns the seconds of its two parts."""

    def __init__(self, config, kind):
        class Characters:
            vocab_size = VOCAB

        self.recipe = training.recipe(config)
        self.model = training.build_model(config, Characters()).train()
        self.optimizers = Optimizers(self.model, self.recipe, "cpu")
        knobs = {"lr": self.recipe.matrix_lr, "weight_decay": self.recipe.weight_decay}
        matrices = self.optimizers.members["muon"].param_groups[0]["params"]
        dtype = DTYPES[self.recipe.matrix_dtype]
        self.optimizers.members["muon"] = KINDS[kind](matrices, **knobs, dtype=dtype)

    def __call__(self):
        ids = torch.randint(1, VOCAB, (self.recipe.batch_size, self.recipe.context + 1))
        started = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=self.recipe.precision == "bf16"):
            logits = self.model(ids[:, :-1])
            loss = torch.nn.functional.cross_entropy(
                logits.flatten(0, 1).float(), ids[:, 1:].flatten()
            )
        loss.backward()
        half = time.perf_counter()
        for member in self.optimizers.members.values():
            member.step()
        self.model.zero_grad(set_to_none=True)
        return half - started, time.perf_counter() - half


def measure(words, rounds, kinds):
    """kind -> share and milliseconds of the optimizers, and milliseconds of the step."""
    config = resolve(make_plan(["train=quick", "device=cpu", *words]).jobs[0].config)
    make_deterministic(config["train"]["threads"])
    steppers = {kind: Stepper(config, kind) for kind in kinds}
    times = {kind: [] for kind in kinds}
    for round_ in range(rounds + 1):
        for kind, step in steppers.items():
            parts = step()
            if round_:
                times[kind].append(parts)
    recipe = {k: config["train"][k] for k in ("precision", "matrix_dtype", "threads")}
    return recipe | {kind: summary(found) for kind, found in times.items()}


def summary(times):
    """Medians with the spread of the share."""
    shares = [optimizer / (rest + optimizer) for rest, optimizer in times]
    return {
        "share": {"median": statistics.median(shares), "min": min(shares), "max": max(shares)},
        "optimizers ms": 1e3 * statistics.median(optimizer for _, optimizer in times),
        "step ms": 1e3 * statistics.median(sum(parts) for parts in times),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    asked = parser.parse_args()
    found = {size: measure(SIZES[size], asked.rounds, asked.kinds) for size in asked.sizes}
    print(
        json.dumps(
            {"cpu": instruction_sets.cpu_name(), "isa": instruction_sets.newest(), **found},
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
