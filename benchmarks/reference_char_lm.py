"""The reference: the widely used character-level recipe for a CPU, reimplemented in plain PyTorch.

4 layers, 4 heads, width 128, context 64, batch 12, 2000 steps of AdamW in float32; pre-LN without
biases, GELU, learned positions, tied embeddings. It is scored once, at its end, over the whole
validation split in windows of 64 without earlier context. Usage: reference_char_lm.py TEXT SEED
"""

import json
import math
import sys
import time
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

LAYERS, HEADS, WIDTH, CONTEXT, BATCH, STEPS = 4, 4, 128, 64, 12, 2000
RATE, LAST_RATE, WARMUP, DECAY, BETAS, CLIP = 1e-3, 1e-4, 100, 0.1, (0.9, 0.99), 1.0


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = (nn.LayerNorm(WIDTH, bias=False) for _ in range(2))
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
        self.out = nn.Linear(WIDTH, WIDTH, bias=False)
        self.up = nn.Linear(WIDTH, 4 * WIDTH, bias=False)
        self.down = nn.Linear(4 * WIDTH, WIDTH, bias=False)

    def forward(self, x):
        batch, length, _ = x.shape
        q, k, v = (
            t.view(batch, length, HEADS, -1).transpose(1, 2)
            for t in self.qkv(self.norm1(x)).split(WIDTH, dim=2)
        )
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, length, WIDTH))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class CharLM(nn.Module):
    def __init__(self, vocab_size):
        super().__init__()
        self.tokens, self.places = nn.Embedding(vocab_size, WIDTH), nn.Embedding(CONTEXT, WIDTH)
        self.blocks = nn.Sequential(*(Block() for _ in range(LAYERS)))
        self.norm = nn.LayerNorm(WIDTH, bias=False)
        for name, weight in self.named_parameters():
            if weight.ndim == 2:
                residual = name.endswith(("out.weight", "down.weight"))
                nn.init.normal_(weight, std=0.02 / math.sqrt(2 * LAYERS) if residual else 0.02)

    def forward(self, ids):
        x = self.tokens(ids) + self.places.weight[: ids.shape[1]]
        return F.linear(self.norm(self.blocks(x)), self.tokens.weight)


def rate(step):
    if step < WARMUP:
        return RATE * (step + 1) / (WARMUP + 1)
    done = (step - WARMUP) / (STEPS - WARMUP)
    return LAST_RATE + 0.5 * (1 + math.cos(math.pi * done)) * (RATE - LAST_RATE)


def batches(tokens):
    starts = torch.randint(len(tokens) - CONTEXT, (BATCH,))
    windows = torch.stack([tokens[s : s + CONTEXT + 1] for s in starts])
    return windows[:, :-1], windows[:, 1:]


@torch.no_grad()
def whole_split_loss(model, tokens):
    total, count = 0.0, len(tokens) - 1
    full = count // CONTEXT
    inputs = tokens[: full * CONTEXT].view(full, CONTEXT)
    targets = tokens[1 : full * CONTEXT + 1].view(full, CONTEXT)
    for i in range(0, full, 256):
        logits = model(inputs[i : i + 256])
        total += F.cross_entropy(
            logits.flatten(0, 1), targets[i : i + 256].flatten(), reduction="sum"
        ).item()
    if rest := count - full * CONTEXT:
        logits = model(tokens[full * CONTEXT : -1][None])
        total += F.cross_entropy(logits[0], tokens[-rest:], reduction="sum").item()
    return total / count


def main(path, seed):
    torch.manual_seed(seed)
    text = Path(path).read_text(encoding="utf-8")
    index = {c: i for i, c in enumerate(sorted(set(text)))}
    tokens = torch.tensor([index[c] for c in text])
    split = int(0.9 * len(tokens))
    train, val = tokens[:split], tokens[split:]
    model = CharLM(len(index))
    decayed = [p for p in model.parameters() if p.ndim == 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": decayed, "weight_decay": DECAY}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, betas=BETAS)
    started = time.monotonic()
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = rate(step)
        inputs, targets = batches(train)
        loss = F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
    trained = time.monotonic() - started
    print(json.dumps({"val/loss": whole_split_loss(model.eval(), val), "train_seconds": trained}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
