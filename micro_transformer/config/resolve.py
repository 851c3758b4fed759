"""Resolves each `auto` of a configuration for this machine, without importing torch."""

import os
from typing import Any

from micro_transformer import machine
from micro_transformer.config.base import origin
from micro_transformer.config.neutral import with_neutral

Config = dict[str, Any]


def resolve(config: Config) -> Config:
    """The configuration with each `auto` replaced by this machine's value, each absent knob at its
    neutral value, and with `origin`: what the base of a fine-tuning depends on, else None."""
    config = with_neutral(config)
    device = config["device"]
    if device == "auto":
        device = "cuda" if machine.cuda_usable() else "cpu"
    narrow = "bf16" if machine.has_bf16(device) else "fp32"
    here = {"precision": narrow, "matrix_dtype": narrow, "threads": machine.threads(_local_ranks())}
    train = {k: here[k] if v == "auto" and k in here else v for k, v in config["train"].items()}
    bench = dict(config["bench"])
    if bench["threads"] == "auto":
        bench["threads"] = machine.threads()
    found = {**config, "device": device, "train": train, "bench": bench}
    return {**found, "origin": _resolved(origin(found), {knob: train[knob] for knob in here})}


def _resolved(start: Config | None, here: Config) -> Config | None:
    """The origin with each `auto` replaced: the same machine trains the base, so that it resolves
    to the value of the fine-tuning."""
    if start is None:
        return None
    start = with_neutral(start)
    train = start["train"] | {k: v for k, v in here.items() if start["train"][k] == "auto"}
    return {**start, "train": train, "origin": _resolved(start["origin"], here)}


def _local_ranks() -> int:
    """Number of ranks of this training on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1))
