"""The base of a fine-tuning: the pre-trained net from whose weights it starts."""

from typing import Any

from micro_transformer.config.choices import read_choice
from micro_transformer.config.groups import NONE, TRAIN_FACTORS

Config = dict[str, Any]


def base_of(config: Config) -> Config | None:
    """The configuration that trains the base: this one with the base's choices and seed. None if
    weights are initialized at random."""
    base = dict(config["base"])
    if not base:
        return None
    seed, named = base.pop("seed"), {"base": NONE, **base}
    chosen = {group: read_choice(group, choice, config) for group, choice in named.items()}
    return {**config, **chosen, "seed": seed}


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
