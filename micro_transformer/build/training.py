"""Builds from a checked configuration what a training needs: task, model, recipe.

Only this module and `measuring` turn configurations into objects. They are separate so that a new
kind of measurement does not change the code digest of trainings.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch

from micro_transformer.config import schema
from micro_transformer.config.components import make
from micro_transformer.config.sections import Train
from micro_transformer.nn.arch.base import Net
from micro_transformer.nn.dims import Dims
from micro_transformer.nn.kernels.base import Kernel
from micro_transformer.seeds import stream
from micro_transformer.tasks.base import Task

Config = dict[str, Any]


def build_task(config: Config) -> Task:
    """The task with its prepared data; DataMissing names the command that prepares them."""
    return make("task", config["task"], config["data"]["dir"])


def build_model(config: Config, task: Task) -> Net:
    """The model on the configured device, with initial weights drawn from the seed and the RoPE
    scaling of its recipe applied."""
    dims = make_dims(config, task)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream(config["seed"], "init"))
        net: Net = make(
            "arch",
            config["arch"],
            dims,
            make("posenc", config["posenc"], dims),
            make("pattern", config["pattern"]),
            lambda: make("ffn", config["ffn"], dims),
            kernel_maker(schema.read_choice("attention", config["train"]["kernel"])),
        )
    _stretch(net, config)
    if config["train"]["grad_checkpointing"]:
        net.use_checkpointing()
    return net.to(config["device"])


def adapted(net: Net, config: Config, fresh: Iterable[str] = ()) -> Net:
    """The net, which has the weights of its base, with the adapter's parameters as drawn from the
    seed, and all that the adapter does not train frozen. fresh: names of the parameters that the
    base did not give."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream(config["seed"], "adapter"))
        make("adapter", config["adapter"]).adapt(net, fresh)
    return net


def _stretch(net: Net, config: Config) -> None:
    """RoPE has the scaling of the fine-tuning that stretched the net: this one or its base's."""
    start = config["origin"]
    if start is None or not schema.component("posenc", config).facts.get("scalable"):
        return
    if start["origin"] is not None and start["scaling"]["kind"] == schema.NO_SCALING:
        _stretch(net, start)
    else:
        scaling = make("scaling", start["scaling"])
        net.posenc.stretch(scaling, start["train"]["context"])  # type: ignore[operator]


def make_dims(config: Config, task: Task) -> Dims:
    """Sizes and knobs of the Transformer blocks, and those of input and output of the task."""
    return Dims(
        vocab_size=task.vocab_size,
        num_outputs=task.num_outputs,
        dropout=config["train"]["dropout"],
        **config["model"],
    )


def recipe(config: Config) -> Train:
    """The training recipe as a dataclass."""
    return Train(**config["train"])


def kernel_maker(choice: Config) -> Callable[[], Kernel]:
    """A factory of attention kernels; each layer gets its own instance."""
    return lambda: make("attention", choice)
