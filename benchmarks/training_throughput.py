"""Milliseconds per training step at 8m, batch 8 x 256: ours and the peers, interleaved.

    python benchmarks/training_throughput.py [--rounds 7] [--precision fp32 bf16]

One process; a round is one step of each peer, and ratios are taken per round: forward, backward,
clipping and fused AdamW, eager; in bf16 only where the CPU has it. Ours is the default net
(`model=8m`) with the kernel of `train.kernel=auto`. Run it alone on the machine.
"""

import argparse
import json
import statistics
import time

import torch
from torch.nn import functional as F

from micro_transformer.build import training
from micro_transformer.config.resolve import resolve
from micro_transformer.machine import has_bf16
from micro_transformer.runs.planning import make_plan

VOCAB, WIDTH, LAYERS, HEADS, BATCH, LENGTH = 256, 288, 8, 9, 8, 256


def ours(*words):
    (job,) = make_plan(["model=8m", "device=cpu", *words]).jobs

    class Bytes:
        vocab_size = VOCAB

    return training.build_model(resolve(job.config), Bytes())


def gpt2():
    from transformers import GPT2Config, GPT2LMHeadModel

    sizes = {"vocab_size": VOCAB, "n_positions": LENGTH, "n_embd": WIDTH}
    dropouts = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    config = GPT2Config(**sizes, n_layer=LAYERS, n_head=HEADS, **dropouts, use_cache=False)
    return GPT2LMHeadModel(config)


def llama():
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=WIDTH,
        intermediate_size=8 * WIDTH // 3,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        max_position_embeddings=LENGTH,
        use_cache=False,
    )
    return LlamaForCausalLM(config)


def x_transformers():
    from x_transformers import Decoder, TransformerWrapper

    layers = Decoder(dim=WIDTH, depth=LAYERS, heads=HEADS, attn_dim_head=32, attn_flash=True)
    return TransformerWrapper(num_tokens=VOCAB, max_seq_len=LENGTH, attn_layers=layers)


PEERS = {
    "ours": ours,
    "ours, learned positions and GELU": lambda: ours("posenc=learned", "ffn=gelu"),
    "transformers GPT-2": gpt2,
    "transformers Llama": llama,
    "x-transformers": x_transformers,
}
OUTSIDE = [name for name in PEERS if not name.startswith("ours")]


def step(model, optimizer, ids, precision):
    """Milliseconds of a whole step."""
    started = time.monotonic()
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        out = model(ids[:, :-1])
        logits = getattr(out, "logits", out)
        loss = F.cross_entropy(logits.flatten(0, 1).float(), ids[:, 1:].flatten())
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return 1e3 * (time.monotonic() - started)


def measure(precision, rounds):
    """Maps name -> parameters and milliseconds per round; ratios to the best other peer."""
    torch.manual_seed(0)
    models = {name: make().train() for name, make in PEERS.items()}
    optimizers = {n: torch.optim.AdamW(m.parameters(), fused=True) for n, m in models.items()}
    ids = torch.randint(1, VOCAB, (BATCH, LENGTH + 1))
    times = {name: [] for name in models}
    for round_ in range(rounds + 2):
        for name, model in models.items():
            ms = step(model, optimizers[name], ids, precision)
            if round_ > 1:
                times[name].append(ms)
    best = [min(times[n][i] for n in OUTSIDE) for i in range(rounds)]
    return {
        name: {
            "params": sum(p.numel() for p in models[name].parameters()),
            "ms": {"median": statistics.median(ms), "min": min(ms), "max": max(ms)},
            "speed against the best peer of the round": statistics.median(
                b / m for b, m in zip(best, ms, strict=True)
            ),
        }
        for name, ms in times.items()
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--precision", nargs="+", default=["fp32"] + ["bf16"] * has_bf16("cpu"))
    asked = parser.parse_args()
    print(json.dumps({p: measure(p, asked.rounds) for p in asked.precision}, indent=1))


if __name__ == "__main__":
    main()
