"""What a mixture of experts costs against dense FFNs of its active and of its total parameters.

    python benchmarks/expert_speed.py [--parts ffn step decode] [--model 8m] [--rounds 30]

ffn: the FFN alone, forward and backward, on 8 rows of 128 random vectors, with transformers'
block of Mixtral (top 2 of 4 gated experts) and its own dense twin. step: a training step of the
trainer on as many random tokens. decode: greedy decoding of 256 tokens at batch size 1. In turn, in
one process; a figure is the median (10th to 90th percentile) over rounds of the ratio to the twin
of equal active parameters. Weights are random. Run it alone on the machine.
"""

import argparse
import contextlib
import random
import statistics
import time

import torch
from adapter_speed import RandomTokens, in_turn

from micro_transformer.build import measuring, training
from micro_transformer.config.components import make
from micro_transformer.config.resolve import resolve
from micro_transformer.generation import generate
from micro_transformer.runs.planning import make_plan
from micro_transformer.training.optimizers import DTYPES
from micro_transformer.training.step import TrainingStep

TWIN = "iso_active"
ARMS = ("moe", TWIN, "iso_total")
MOST = {"ffn": 1.5, "step": 1.25, "decode": 1.4}  # of moe over its twin
NEW_TOKENS = 256


def configured(arm, asked):
    words = [f"model={asked.model}", f"ffn={arm}", "device=cpu", "eval=none", *asked.words]
    if asked.expert:
        words.append(f"ffn.expert={asked.expert}")
    words.append(
        "train.threads=auto" if asked.threads is None else f"train.threads={asked.threads}"
    )
    (job,) = make_plan([*words, f"train.precision={asked.precision}"]).jobs
    return resolve(job.config)


def built(arm, asked):
    config, task = configured(arm, asked), RandomTokens(256)
    return config, task, training.build_model(config, task)


def mixtral(dims):
    """transformers' block with the sizes of ffn=moe ffn.expert=SwiGLU."""
    from transformers.models.mixtral import modeling_mixtral as theirs

    width = round(round(dims.d_ff / 2) * 2 / 3)
    config = theirs.MixtralConfig(
        hidden_size=dims.d_model,
        intermediate_size=width,
        num_local_experts=4,
        num_experts_per_tok=2,
    )
    config._experts_implementation = "eager"
    block = theirs.MixtralSparseMoeBlock(config)
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter, std=0.02)
    return block


def ffn_calls(asked):
    calls = {}
    for arm in ARMS:
        config, task, net = built(arm, asked)
        dims = training.make_dims(config, task)
        calls[arm] = forward_and_backward(net.blocks()[0].ffn, dims, config)
    gated = {**config["ffn"], "expert": "SwiGLU"}
    for arm, kind in (("moe, gated", "MoE"), ("iso_active, gated", "IsoActive")):
        extra = {"balance_loss": 0.01, "z_loss": 0.001} if kind == "MoE" else {}
        ffn = make("ffn", {**gated, "kind": kind, **extra}, dims)
        for parameter in ffn.parameters():
            torch.nn.init.normal_(parameter, std=0.02)
        calls[arm] = forward_and_backward(ffn, dims, config)
    with contextlib.suppress(ImportError):
        calls["mixtral, gated"] = forward_and_backward(mixtral(dims), dims, config)
    return calls


def forward_and_backward(ffn, dims, config):
    dtype = DTYPES[config["train"]["precision"]]
    x = torch.randn(8, 128, dims.d_model, requires_grad=True)
    slope = torch.randn(8, 128, dims.d_model)

    def call():
        ffn.zero_grad(set_to_none=True)
        x.grad = None
        with torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
            y = ffn(x)
        y.backward(slope.to(y.dtype))

    return call


def step_calls(asked):
    def stepper(arm):
        config, task, net = built(arm, asked)
        step = TrainingStep(net, task, training.recipe(config), seed=0, device="cpu")
        numbers = iter(range(1 << 30))
        return lambda: step(next(numbers))

    return {arm: stepper(arm) for arm in ARMS}


def decode_calls(asked):
    def decoder(arm):
        config, _task, net = built(arm, asked)
        ids = torch.randint(4, 256, (1, 32))
        greedy = make("decoding", {**resolve(job_of("greedy"))["decoding"]})
        layer = measuring.cache_maker(config)
        net.eval()
        return lambda: generate(net, ids, greedy, NEW_TOKENS, make_layer=layer, seed=0)

    def job_of(decoding):
        (job,) = make_plan([f"decoding={decoding}", "eval=none"]).jobs
        return job.config

    return {arm: decoder(arm) for arm in ARMS}


CALLS = {"ffn": ffn_calls, "step": step_calls, "decode": decode_calls}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="*", default=list(CALLS), choices=CALLS)
    parser.add_argument("--model", default="8m")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--expert", help="kind of the experts; default: that of conf/ffn")
    parser.add_argument("--threads", type=int)
    parser.add_argument("words", nargs="*", help="of the configuration")
    asked = parser.parse_args()
    if asked.threads:
        torch.set_num_threads(asked.threads)
    random.seed(0)
    for part in asked.parts:
        torch.manual_seed(0)
        times = in_turn(CALLS[part](asked), asked.rounds)
        for name, found in times.items():
            twin = times["iso_active, gated" if name.endswith("gated") else TWIN]
            ratios = sorted(a / b for a, b in zip(found, twin, strict=True))
            middle = statistics.median(ratios)
            bound = f", must {MOST[part]}" if name == "moe" else ""
            print(
                f"{part:6} {name:18} {1e3 * statistics.median(found):8.2f} ms  {middle:.2f} "
                f"({ratios[len(ratios) // 10]:.2f} to {ratios[-1 - len(ratios) // 10]:.2f})"
                f" of its active twin{bound}",
                flush=True,
            )


if __name__ == "__main__":
    started = time.monotonic()
    main()
    print(f"{time.monotonic() - started:.0f} s")
