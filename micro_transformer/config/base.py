"""The base of a fine-tuning: the pre-trained net from whose weights it starts, of the same task or
of another."""

from typing import Any

from micro_transformer.config.choices import read_choice
from micro_transformer.config.groups import NONE, TRAIN_FACTORS

Config = dict[str, Any]


def base_of(config: Config) -> Config | None:
    """The configuration that trains the base: this one with the base's choices and seed, and in a
    task of its own with this one's tokenizer. None if weights are initialized at random."""
    base = dict(config["base"])
    if not base:
        return None
    seed, named = base.pop("seed"), {"base": NONE, "adapter": NONE, **base}
    chosen = {
        group: read_choice(group, choice, config)
        for group, choice in named.items()
        if choice is not None
    }
    tokenizer = {k: v for k, v in config["task"].items() if k == "tokenizer"}
    if "tokenizer" in chosen.get("task", ()):
        chosen["task"] |= tokenizer
    return {**config, **chosen, "seed": seed}


def start_of(config: Config) -> Config | None:
    """The configuration of the training whose weights this one starts from, with this one's paths;
    resolved where this one is. None if weights are initialized at random."""
    if "origin" not in config:
        return base_of(config)
    start = config["origin"]
    return None if start is None else {**config, **{key: start[key] for key in TRAIN_FACTORS}}


def origin(config: Config) -> Config | None:
    """What the base's weights depend on, its own origin included, and the RoPE scaling from the
    base's context length to this recipe's. None if weights are initialized at random."""
    base = base_of(config)
    if base is None:
        return None
    scaling = read_choice("scaling", config["train"]["scaling"], config)
    if "factor" in scaling:
        scaling["factor"] = config["train"]["context"] / base["train"]["context"]
    base["origin"] = origin(base)
    return {key: base[key] for key in TRAIN_FACTORS} | {"scaling": scaling}
