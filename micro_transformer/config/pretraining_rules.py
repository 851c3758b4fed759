"""Rules between a net and a base of another task, from whose weights it starts."""

from collections.abc import Iterator
from typing import Any

from micro_transformer.config.base import base_of
from micro_transformer.config.components import complaint
from micro_transformer.config.data_needs import unmet
from micro_transformer.config.schema import component
from micro_transformer.wording import _

NOTHING: dict[str, Any] = {"measures": {}}


def pretraining(config: dict[str, Any]) -> Iterator[str]:
    """One line per rule that the base breaks, itself or its own base."""
    base = base_of(config)
    if base is None:
        return
    net, own = component("arch", base), component("arch", config)
    if net.kind != own.kind:
        yield _(
            "base.arch={arch}: is of kind {kind} and this net of kind {own}, so its weights do not "
            "fit; use another base, or arch={arch}",
            arch=config["base"].get("arch"),
            kind=net.kind,
            own=own.kind,
        )
    task = component("task", base)
    tokenizer = base["task"].get("tokenizer")
    if "tokenizer" in task.knobs and (rule := complaint(tokenizer, task.knobs["tokenizer"])):
        yield _(
            "task.tokenizer={tokenizer}: the base reads the same ids, and for its task kind {kind} "
            "it must be {rule}",
            tokenizer=tokenizer,
            kind=task.kind,
            rule=rule,
        )
    needs = unmet({**base, "eval": NOTHING, "bench": NOTHING})
    for line in [*needs, *pretraining(base)]:
        yield f"base.task={config['base'].get('task')}: {line}"
