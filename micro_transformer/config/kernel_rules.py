"""Rules of attention kernels: what one cannot do with a cache, on a device or without a package."""

import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator
from typing import Any

from micro_transformer.config.choices import read_choice
from micro_transformer.config.components import find
from micro_transformer.config.schema import component
from micro_transformer.wording import _

FULL = "Full"  # kind of the pattern that hides nothing


def segments(config: dict[str, Any]) -> Iterator[str]:
    """A kernel that takes one tensor of keys would run as another kernel over several segments."""
    attention, cache = component("attention", config), component("cache", config)
    has_gaps = component("pattern", config).facts["gaps"] and cache.facts["stores"]
    if (cache.facts["segmented"] or has_gaps) and not attention.facts["takes_segments"]:
        yield _(
            "attention kind {attention}: takes all keys in one tensor, and cache kind {cache} "
            "gives them in segments; use attention=auto or {cure}",
            attention=attention.kind,
            cache=cache.kind,
            cure="cache=none" if has_gaps else "cache=contiguous",
        )


def bidirectional(config: dict[str, Any]) -> Iterator[str]:
    """An encoder would read the same under every pattern, which are made for causal texts."""
    arch, pattern = component("arch", config), component("pattern", config)
    if arch.facts.get("bidirectional") and pattern.kind != FULL:
        yield _(
            "pattern kind {pattern}: arch kind {arch} sees the whole text; use pattern=full",
            pattern=pattern.kind,
            arch=arch.kind,
        )


def kernels(config: dict[str, Any]) -> Iterator[str]:
    """Kernels that this machine or device cannot run."""
    recipe = config["train"]["kernel"]
    training = find("attention", read_choice("attention", recipe, config)["kind"])
    for where, kernel in (
        ("attention kind " + config["attention"]["kind"], component("attention", config)),
        (f"train.kernel={recipe}", training),
    ):
        package = kernel.facts["package"]
        if package and not is_installed(package):
            yield _(
                "{kernel}: needs the package {package}, which is not installed; use sdpa",
                kernel=where,
                package=package,
            )
    is_compiled = config["device"] == "cpu" and config["attention"].get("compiled")
    if is_compiled and not has_compiler():
        yield _(
            "attention kind {kernel}: is compiled on a CPU, and there is no C++ compiler "
            "{compiler}; install one, or use sdpa",
            kernel=config["attention"]["kind"],
            compiler=_compiler(),
        )
    if config["device"] == "cpu" and not training.facts["trains_on_cpu"]:
        yield _("train.kernel={kernel}: has no backward pass on a CPU; use auto", kernel=recipe)


def is_installed(package: str) -> bool:
    """Whether Python finds the package."""
    return importlib.util.find_spec(package) is not None


def has_compiler() -> bool:
    """Whether torch.compile finds its C++ compiler."""
    return shutil.which(_compiler()) is not None


def _compiler() -> str:
    """The compiler that torch.compile takes."""
    return os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")
