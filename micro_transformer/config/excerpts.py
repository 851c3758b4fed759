"""Rules between a configuration and its data: excerpts must fit into their split."""

from collections.abc import Iterator
from typing import Any

from micro_transformer.config.components import find
from micro_transformer.config.schema import LISTS
from micro_transformer.wording import _


def beyond_the_text(config: dict[str, Any], tokens: dict[str, int]) -> list[str]:
    """The rules that the configuration breaks given its data: excerpts longer than their split, and
    splits that the task lacks. tokens: number of tokens per split; empty for a task that generates
    its data, which breaks none."""
    lines = []
    for where, split, num in _excerpts(config) if tokens else ():
        if split not in tokens:
            lines.append(
                _(
                    "{where}.split={split}: must be one of the task's, {tokens}",
                    where=where,
                    split=split,
                    tokens=", ".join(tokens),
                )
            )
        elif num + (split == "train") > tokens[split]:  # training needs one more token as target
            had = _("the {split} split has only {tokens} tokens", split=split, tokens=tokens[split])
            lines.append(
                _(
                    "{where}={num}: {had}; lower it or prepare a longer text",
                    where=where,
                    num=num,
                    had=had,
                )
            )
    return lines


def _excerpts(config: dict[str, Any]) -> Iterator[tuple[str, str, int]]:
    """(knob, split, tokens) of each knob that needs an excerpt of a split; 0 tokens if the excerpt
    may have any length."""
    yield "train.context", "train", config["train"]["context"]
    for group in LISTS:
        for name, entry in config[group]["measures"].items():
            facts, where = find(group, entry["kind"]).facts, f"{group}.measures.{name}"
            if (knob := facts.get("excerpt")) is not None:
                yield f"{where}.{knob}", facts["excerpt_of"], entry[knob]
            if "split" in entry:
                yield where, entry["split"], 0
