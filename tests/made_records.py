"""Synthetic records for the tests of what is made from records."""

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np

from micro_transformer.hashing import digest
from micro_transformer.records.record_files import HISTORY, RECORD
from micro_transformer.records.run_record import RunRecord, to_dict

CHOICES = {
    "option": "A", "arch": "decoder", "model": "1m", "posenc": "rope", "ffn": "gelu",
    "attention": "sdpa", "cache": "contiguous", "decoding": "greedy", "task": "shakespeare",
    "train": "quick", "eval": "quality", "bench": "quick",
}  # fmt: skip
TRAIN_FACTORS = ("arch", "model", "posenc", "ffn", "task", "train")


def make_record(seed: int = 42, loss: float = 1.62, **changes: Any) -> RunRecord:
    """A record with status ok; a group's name changes its choice, another name the field."""
    choices = CHOICES | {k: v for k, v in changes.items() if k in CHOICES}
    fields = {k: v for k, v in changes.items() if k not in CHOICES}
    lr = fields.pop("lr", 0.01)
    train = "-".join(str(choices[f]) for f in TRAIN_FACTORS) + f"-{seed}-{lr}"
    run = train + "-".join(choices.values())
    config = {group: {"kind": choice} for group, choice in choices.items()} | {"seed": seed}
    config["train"] = {"lr": lr, "batch_size": 12, "betas": [0.9, 0.95]}
    defaults: dict[str, Any] = {
        "id": digest(run),
        "seed": seed,
        "status": "ok",
        "config": config,
        "choices": choices,
        "overrides": [f"{k}={v}" for k, v in changes.items() if k in CHOICES] + [f"seed={seed}"],
        "sweep": "synthetic",
        "fingerprints": {"run": run, "train": train, "code": "c0de", "data": "da7a"},
        "git": {"commit": "0123456789ab", "dirty": False},
        "started": "2026-01-02T03:04:05Z",
        "seconds": 31.2,
        "env": {"torch": "2.13.0", "python": "3.11", "cpu": "Test CPU", "device": "cpu",
                "threads": 2, "dtype": "float32", "jobs_beside": 0},
        "size": {"params": 1_000_000, "trainable": 1_000_000},
        "metrics": {"val/loss": loss, "val/ppl": float(np.exp(loss)),
                    "val/bits_per_byte": loss / float(np.log(2))},
        "cost": {"train/ms_per_batch": 20.0, "decode/tokens_per_s": 900.0, "decode/ttft_ms": 5.0,
                 "decode/peak_rss_gb": 0.41, "mem/peak_vram_gb": None},
        "data": {"tier": "MT_DATA", "sha256": "da7a", "rows": 40_000},
    }  # fmt: skip
    return RunRecord(**defaults | fields)


def make_sweep(
    factors: dict[str, list[str]],
    seeds: tuple[int, ...] = (42, 43, 44),
    effects: dict[tuple[str, str], float] | None = None,
    noise: float = 0.005,
    rng: int = 0,
) -> list[RunRecord]:
    """A complete factorial: loss = 1.6 + effects of the levels + seed + noise of the training."""
    draw = np.random.default_rng(rng)
    by_seed = {seed: draw.normal(0, noise) for seed in seeds}
    by_training: dict[Any, float] = {}
    records = []
    for levels in itertools.product(*factors.values()):
        for seed in seeds:
            named = dict(zip(factors, levels, strict=True))
            training = (tuple(v for k, v in named.items() if k in TRAIN_FACTORS), seed)
            by_training.setdefault(training, draw.normal(0, noise))
            loss = 1.6 + by_seed[seed] + by_training[training]
            loss += sum((effects or {}).get(item, 0.0) for item in named.items())
            record = make_record(seed, loss, **named)
            record.cost["decode/tokens_per_s"] = 900 * float(np.exp(draw.normal(0, 0.03)))
            records.append(record)
    return records


def write_all(records: list[RunRecord], folder: Path) -> Path:
    """Each record in a job folder of its own, with a curve of eight points."""
    for i, record in enumerate(records):
        path = folder / f"{i:05d}" / RECORD
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(to_dict(record)))  # RunRecord.write waits for the disk
        final = record.metrics.get("val/loss")
        if final is not None:
            lines = [
                {"step": 50 * k, "epoch": 0.1 * k, "train/loss": final + 1.9 / k,
                 "val/loss": final + 2 / k - 0.25, "lr": 0.01, "seconds": 3.0 * k}
                for k in range(1, 9)
            ]  # fmt: skip
            text = "".join(json.dumps(line) + "\n" for line in lines)
            path.with_name(HISTORY).write_text(text)
    return folder


def add_places(records: list[RunRecord], shorter: str = "learned") -> list[RunRecord]:
    """The records with stretches, growing context, recall by distance and a cache by context; the
    positions `shorter` end at 2048 tokens."""
    draw = np.random.default_rng(3)
    for record in records:
        loss = record.metrics["val/loss"] or 0.0
        limit = 2048 if record.choices["posenc"] == shorter else 1 << 20
        record.config["train"]["context"] = limit
        for i, (name, end) in enumerate({"0-1k": 1024, "1k-4k": 4096, "4k-8k": 8192}.items()):
            there = end <= limit
            worse = float(np.exp(loss + 0.3 * i * (record.choices["posenc"] == "rope")))
            record.metrics |= {f"ppl/{name}": worse if there else None,
                               f"n/{name}": 16_384 * there}  # fmt: skip
        record.metrics |= {"context/n": 4096, "recall/trained_length": 0.99,
                           "recall/chance": 1 / 16, "recall/majority": 0.031}  # fmt: skip
        for k in range(6):
            at, there = 256 << k, 256 << k <= limit
            hits = int(64 * max(0.05, 1 - 0.2 * k * draw.random()))
            record.metrics |= {
                f"context/loss@{at}": loss + 0.2 / (k + 1) + float(draw.normal(0, 0.003))
                if there else None,
                f"recall/accuracy@{at}": hits / 64 if there else None,
                f"recall/low@{at}": max(0.0, hits / 64 - 0.1) if there else None,
                f"recall/high@{at}": min(1.0, hits / 64 + 0.1) if there else None,
                f"recall/n@{at}": 64 * there,
            }  # fmt: skip
            held = at if record.choices["cache"] != "sliding" else min(at, 1024)
            record.cost |= {
                f"cache/bytes@{at}": 4096 * held, f"cache/predicted_bytes@{at}": 4096 * held,
                f"cache/rss_gb@{at}": 0.3 + at / 1e5,
                f"cache/tokens_per_s@{at}": 900 / (1 + held / 4096) + float(draw.normal(0, 9)),
            }  # fmt: skip
    return records
