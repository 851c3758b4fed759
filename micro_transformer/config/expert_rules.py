"""Rules of mixtures of experts and of their dense twins."""

from collections.abc import Iterator
from typing import Any

from micro_transformer.config.choices import choices_of, read_choice
from micro_transformer.config.components import catalog, find
from micro_transformer.config.schema import LISTS, component
from micro_transformer.wording import _


def experts(config: dict[str, Any]) -> Iterator[str]:
    """The rules of its experts that the configuration breaks."""
    expert = config["ffn"].get("expert")
    able = [kind for kind, found in catalog("ffn").items() if found.facts.get("is_expert")]
    if expert is not None and expert not in able:
        yield _(
            "ffn.expert={expert}: not a dense FFN that experts can be; use {names}",
            expert=expert,
            names=_(" or ").join(able),
        )
    yield from _without_router(config)


def _without_router(config: dict[str, Any]) -> Iterator[str]:
    """A measure of experts needs some."""
    ffn = component("ffn", config)
    if ffn.facts.get("has_router"):
        return
    for group in LISTS:
        for name, entry in config[group]["measures"].items():
            if find(group, entry["kind"]).facts.get("needs_experts"):
                kinds = {choice: read_choice("ffn", choice)["kind"] for choice in choices_of("ffn")}
                routed = [
                    c for c, kind in kinds.items() if find("ffn", kind).facts.get("has_router")
                ]
                yield _(
                    "{where}: kind {kind} reads the router of a mixture of experts, and ffn kind "
                    "{ffn} has none; use ffn={names} or another {group}",
                    where=f"{group}.measures.{name}",
                    kind=entry["kind"],
                    ffn=ffn.kind,
                    names=", ".join(routed),
                    group=group,
                )


def remarks(config: dict[str, Any]) -> Iterator[str]:
    """What a reader of the figures of a valid configuration must know."""
    num, top_k = config["ffn"].get("num_experts"), config["ffn"].get("top_k")
    if component("ffn", config).facts.get("has_router") and num == top_k:
        yield _("dense: every token takes all {num} experts, nothing is routed", num=num)
