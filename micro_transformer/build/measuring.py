"""From a checked configuration to what is chosen around a trained net: scaling, cache, decoding,
evaluators and benches."""

from collections.abc import Callable
from typing import Any

from micro_transformer.config.components import make
from micro_transformer.config.schema import NO_SCALING, component
from micro_transformer.nn.arch.decoder import DecoderLM
from micro_transformer.nn.cache.base import CacheLayer, CacheSpec

Config = dict[str, Any]
MB = 1e6


def stretch(net: DecoderLM, config: Config) -> None:
    """The net reads texts under the configured RoPE scaling, from the length it was trained on;
    without one, as its recipe has it."""
    scalable = component("posenc", config).facts.get("scalable")
    if scalable and config["scaling"]["kind"] != NO_SCALING:
        net.posenc.stretch(make("scaling", config["scaling"]), config["train"]["context"])  # type: ignore[operator]


def decoding(config: Config) -> Any:
    """The decoding strategy."""
    return make("decoding", config["decoding"])


def cache_maker(config: Config) -> Callable[[CacheSpec], CacheLayer]:
    """A maker of one layer's cache from a CacheSpec; a layer may hold its share of the budget."""
    limit = config["budget"]["kv_mb"]
    share = None if limit is None else int(limit * MB / config["model"]["num_layers"])
    return lambda spec: make("cache", config["cache"], spec._replace(budget_bytes=share))


def measures(group: str, config: Config) -> dict[str, Any]:
    """name -> evaluator or bench, in the order of the yaml."""
    return {name: make(group, entry) for name, entry in config[group]["measures"].items()}
