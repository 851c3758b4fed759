"""Rules of mixtures of experts and of their dense twins."""

from collections.abc import Iterator
from typing import Any

from micro_transformer.config.components import catalog
from micro_transformer.config.schema import component
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


def remarks(config: dict[str, Any]) -> Iterator[str]:
    """What a reader of the figures of a valid configuration must know."""
    num, top_k = config["ffn"].get("num_experts"), config["ffn"].get("top_k")
    if component("ffn", config).facts.get("has_router") and num == top_k:
        yield _("dense: every token takes all {num} experts, nothing is routed", num=num)
