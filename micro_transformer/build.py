"""From a checked configuration to objects. The only place that knows both."""

from collections.abc import Callable
from typing import Any

import torch

from micro_transformer import schema
from micro_transformer.components import find
from micro_transformer.nn.dims import Dims
from micro_transformer.nn.kernels.base import Kernel
from micro_transformer.nn.models import DecoderLM
from micro_transformer.repro import stream
from micro_transformer.schema import component
from micro_transformer.tasks.base import Task

Config = dict[str, Any]


def task(config: Config) -> Task:
    """The task over its prepared data; DataMissing names the command that makes them."""
    return _make("task", config["task"], config["data"]["dir"])


def model(config: Config, task: Task) -> DecoderLM:
    """The net with initial weights drawn from the seed, on the configured device."""
    dims = make_dims(config, task.vocab_size)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream(config["seed"], "init"))
        net = _class("arch", config["arch"])(
            dims,
            posenc=_make("posenc", config["posenc"], dims),
            pattern=_make("pattern", config["pattern"]),
            make_ffn=lambda: _make("ffn", config["ffn"], dims),
            make_kernel=kernel_maker(schema.read_choice("attention", config["train"]["kernel"])),
        )
    if config["train"]["grad_checkpointing"]:
        net.use_checkpointing()
    return net.to(config["device"])


def stretch(net: DecoderLM, config: Config) -> None:
    """The net reads texts under the configured RoPE scaling, from the length it was trained on."""
    if component("posenc", config).facts.get("scalable"):
        net.posenc.stretch(_make("scaling", config["scaling"]), config["train"]["context"])  # type: ignore[operator]


def make_dims(config: Config, vocab_size: int) -> Dims:
    """The sizes and knobs of the blocks."""
    return Dims(vocab_size=vocab_size, dropout=config["train"]["dropout"], **config["model"])


def recipe(config: Config) -> schema.Train:
    """The recipe of the trainer."""
    return schema.Train(**config["train"])


def kernel_maker(choice: Config) -> Callable[[], Kernel]:
    """A maker of attention kernels: each layer has its own."""
    return lambda: _make("attention", choice)


def decoding(config: Config) -> Any:
    """The decoding strategy."""
    return _make("decoding", config["decoding"])


def cache_maker(config: Config) -> Callable[[Any], Any]:
    """A maker of one layer's cache from a CacheSpec."""
    return lambda spec: _make("cache", config["cache"], spec)


def measures(group: str, config: Config) -> dict[str, Any]:
    """name -> evaluator or bench, in the order of the yaml."""
    return {name: _make(group, entry) for name, entry in config[group]["measures"].items()}


def _class(group: str, choice: Config) -> type:
    return find(group, choice["kind"]).load()


def _make(group: str, choice: Config, *runtime: Any) -> Any:
    knobs = {key: value for key, value in choice.items() if key != "kind"}
    return _class(group, choice)(*runtime, **knobs)
