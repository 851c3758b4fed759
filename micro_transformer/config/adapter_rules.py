"""Rules of adapters: what one needs of the net, the recipe and the base."""

from collections.abc import Iterator
from typing import Any

from micro_transformer.config.schema import component
from micro_transformer.wording import _


def adapters(config: dict[str, Any]) -> Iterator[str]:
    """The rules of its adapter that the configuration breaks."""
    adapter, knobs = component("adapter", config), config["adapter"]
    starts = config["base"] or config.get("origin")  # a stored training has its origin alone
    if adapter.facts["needs_base"] and not starts:
        yield _(
            "adapter kind {kind}: adapts a trained net; choose one, such as base=long, or use "
            "adapter=none or adapter=head_only",
            kind=adapter.kind,
        )
    if "rank" in knobs:
        yield from _low_rank(config, knobs)
    width = config["model"]["d_model"]
    if knobs.get("width", 0) > width:
        yield _(
            "adapter.width={width}: a bottleneck is at most as wide as model.d_model={d_model}; "
            "lower it",
            width=knobs["width"],
            d_model=width,
        )
    if "num_tokens" in knobs:
        yield from _prompt(config, knobs["num_tokens"])


def _low_rank(config: dict[str, Any], knobs: dict[str, Any]) -> Iterator[str]:
    targets, sizes = knobs["targets"], config["model"]
    if not targets or len(targets) != len(set(targets)):
        yield _(
            "adapter.targets={targets}: must name q, k, v or out, each once at most",
            targets=targets,
        )
    width = sizes["d_model"]
    shared = (sizes["num_kv_heads"] or sizes["num_heads"]) * (width // sizes["num_heads"])
    narrowest = min([width, *(shared for name in targets if name in "kv")])
    if knobs["rank"] > narrowest:
        yield _(
            "adapter.rank={rank}: above {width}, the width of the smallest of adapter.targets; "
            "lower it",
            rank=knobs["rank"],
            width=narrowest,
        )


def _prompt(config: dict[str, Any], num: int) -> Iterator[str]:
    context, max_len = config["train"]["context"], config["model"]["max_len"]
    if num > context:
        yield _(
            "adapter.num_tokens={num}: a prompt longer than the text, train.context={context}; "
            "lower it",
            num=num,
            context=context,
        )
    elif component("posenc", config).facts.get("trained_table") and num + context > max_len:
        yield _(
            "adapter.num_tokens={num}: with train.context={context} it passes the table of posenc "
            "kind {kind}, model.max_len={max_len}; lower it or raise model.max_len",
            num=num,
            context=context,
            kind=component("posenc", config).kind,
            max_len=max_len,
        )
