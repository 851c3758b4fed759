"""Resolves each `auto` of a configuration for this machine, without importing torch."""

import os
from typing import Any

from micro_transformer import machine
from micro_transformer.config import schema


def resolve(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration with each `auto` replaced by this machine's value, and with `origin`: the
    base recipe and RoPE scaling of a fine-tuning, else None."""
    device = config["device"]
    if device == "auto":
        device = "cuda" if machine.cuda_usable() else "cpu"
    narrow = "bf16" if machine.has_bf16(device) else "fp32"
    here = {"precision": narrow, "matrix_dtype": narrow, "threads": machine.threads(_local_ranks())}
    added = dict.fromkeys(schema.ADDED_AUTOS, "auto")
    asked = {**added, **config["train"]}
    train = {k: here[k] if v == "auto" and k in here else v for k, v in asked.items()}
    bench = dict(config["bench"])
    if bench["threads"] == "auto":
        bench["threads"] = machine.threads()
    origin = schema.origin({**config, "train": train})
    if origin is not None:  # the same machine trains the base: `auto` resolves to the same value
        asked = {**added, **origin["train"]}
        origin["train"] = asked | {k: train[k] for k in here if asked[k] == "auto"}
    return {**config, "device": device, "train": train, "bench": bench, "origin": origin}


def _local_ranks() -> int:
    """Number of ranks of this training on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1))
