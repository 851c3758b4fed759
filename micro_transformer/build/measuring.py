"""Builds from a checked configuration what a measurement needs besides the trained model: RoPE
scaling, KV cache, decoding strategy, evaluators and benchmarks."""

import logging
from collections.abc import Callable
from typing import Any

from micro_transformer.config.components import make
from micro_transformer.config.schema import NO_SCALING, component
from micro_transformer.decoding.base import Strategy
from micro_transformer.nn.arch.base import Net
from micro_transformer.nn.cache.base import CacheLayer, CacheSpec
from micro_transformer.wording import _

log = logging.getLogger(__name__)

Config = dict[str, Any]
MB = 1e6


def stretch(net: Net, config: Config) -> None:
    """The configured RoPE scaling is applied to the net, relative to its training context; with
    `scaling=none` the scaling of its recipe stays."""
    scalable = component("posenc", config).facts.get("scalable")
    if scalable and config["scaling"]["kind"] != NO_SCALING:
        net.posenc.stretch(make("scaling", config["scaling"]), config["train"]["context"])  # type: ignore[operator]


def build_strategy(config: Config, vocab_size: int) -> Strategy:
    """The decoding strategy; the log says which of its knobs exceeds the vocabulary."""
    chosen = config["decoding"]
    for knob in component("decoding", config).facts["up_to_vocabulary"]:
        if (chosen[knob] or 0) > vocab_size:
            said = _("decoding.%s=%s: exceeds the vocabulary of %s, so all tokens are kept")
            log.warning(said, knob, chosen[knob], vocab_size)
    return make("decoding", chosen)


def cache_maker(config: Config) -> Callable[[CacheSpec], CacheLayer]:
    """A factory of one layer's cache from a CacheSpec; the memory budget is split equally among
    the layers."""
    limit = config["budget"]["kv_mb"]
    share = None if limit is None else int(limit * MB / config["model"]["num_layers"])
    return lambda spec: make("cache", config["cache"], spec._replace(budget_bytes=share))


def build_measures(group: str, config: Config) -> dict[str, Any]:
    """Maps name -> evaluator or benchmark, in the order of the yaml."""
    return {name: make(group, entry) for name, entry in config[group]["measures"].items()}
