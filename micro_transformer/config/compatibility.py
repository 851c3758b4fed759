"""Finds invalid combinations: values that are valid alone but not together.

Each broken rule is one line: the keys with their values, the rule, the cure. Needs no torch.
"""

from collections.abc import Iterator
from typing import Any

from micro_transformer.config import kernel_rules
from micro_transformer.config.adapter_rules import adapters
from micro_transformer.config.base import base_of
from micro_transformer.config.choices import read_choice
from micro_transformer.config.components import Component, find
from micro_transformer.config.data_needs import unmet
from micro_transformer.config.expert_rules import experts
from micro_transformer.config.pretraining_rules import pretraining
from micro_transformer.config.relations import broken
from micro_transformer.config.schema import COMPONENTS, LISTS, NO_SCALING, component
from micro_transformer.wording import _


def conflicts(config: dict[str, Any]) -> list[str]:
    """The rules that the configuration breaks, one line each; its single values must be valid."""
    rules = (
        _heads,
        _positions,
        _recipe,
        _fine_tuning,
        adapters,
        experts,
        _blocks,
        kernel_rules.segments,
        kernel_rules.kernels,
        _unmasked,
        kernel_rules.bidirectional,
        _coverage,
        _guidance,
        pretraining,
        unmet,
    )
    found = [line for rule in rules for line in rule(config)]
    for group in COMPONENTS:
        found += broken(group, component(group, config), config[group])
    return found


def _heads(config: dict[str, Any]) -> Iterator[str]:
    sizes = config["model"]
    head_dim, rest = divmod(sizes["d_model"], sizes["num_heads"])
    posenc, scaling = component("posenc", config), component("scaling", config)
    said = f"model.d_model={sizes['d_model']}, model.num_heads={sizes['num_heads']}"
    kv_heads = sizes["num_kv_heads"] or sizes["num_heads"]
    if sizes["num_heads"] % kv_heads:
        yield _(
            "model.num_kv_heads={n}: must divide model.num_heads={heads}; change one of them",
            n=kv_heads,
            heads=sizes["num_heads"],
        )
    if sizes["key_shift"] and kv_heads == 1:
        yield _("model.key_shift=true: shifts half of the heads of keys; use model.num_kv_heads=2")
    if rest:
        yield _(
            "{sizes}: the width must be a multiple of the heads; change one of them", sizes=said
        )
    elif posenc.facts.get("pairs_channels") and head_dim % 2:
        yield _(
            "{sizes}: posenc kind {kind} rotates pairs of channels, so the head width must be even "
            "and is {head_dim}; change one of them",
            sizes=said, kind=posenc.kind, head_dim=head_dim,
        )  # fmt: skip
    elif head_dim == 2:
        for each in (scaling, _trained_scaling(config)):
            if each.facts.get("divides_by_width_less_two"):
                yield _(
                    "{sizes}: scaling kind {kind} needs heads of more than 2 channels",
                    sizes=said, kind=each.kind,
                )  # fmt: skip


def _positions(config: dict[str, Any]) -> Iterator[str]:
    posenc, scaling = component("posenc", config), component("scaling", config)
    if scaling.kind != NO_SCALING and not posenc.facts.get("scalable"):
        yield _(
            "scaling kind {scaling}: stretches rotary positions, and posenc kind {posenc} has "
            "none; use scaling=none or posenc=rope",
            scaling=scaling.kind,
            posenc=posenc.kind,
        )
    if posenc.facts.get("trained_table"):
        yield from _beyond_the_table(config, posenc)
    yield from _out_of_place(config)


def _recipe(config: dict[str, Any]) -> Iterator[str]:
    train, max_len = config["train"], config["model"]["max_len"]
    if train["context"] > max_len:
        yield _(
            "train.context={context}: longer than model.max_len={max_len}; raise model.max_len",
            context=train["context"],
            max_len=max_len,
        )
    if train["batch_size"] % config["ranks"]:
        yield _(
            "train.batch_size={size}: {ranks} ranks take equal shares of a batch; make it"
            " a multiple",
            size=train["batch_size"],
            ranks=config["ranks"],
        )
    if len(train["betas"]) != 2:
        yield _("train.betas={betas}: must be two numbers", betas=train["betas"])
    if train["precision"] == "fp16" and config["device"] == "cpu":
        yield _("train.precision=fp16: needs device=cuda; use train.precision=bf16 or fp32")
    if train["warmup_steps"] >= train["steps"]:
        yield _(
            "train.warmup_steps={warmup}: must be less than train.steps={steps}; nothing "
            "would be trained at the full rate",
            warmup=train["warmup_steps"],
            steps=train["steps"],
        )


def _trained_scaling(config: dict[str, Any]) -> Component:
    return find("scaling", read_choice("scaling", config["train"]["scaling"], config)["kind"])


def _fine_tuning(config: dict[str, Any]) -> Iterator[str]:
    """Broken rules of fine-tuning: a recipe that starts from the weights of a base."""
    base, recipe = base_of(config), config["train"]["scaling"]
    is_scaled = _trained_scaling(config).kind != NO_SCALING
    if base is None:
        if is_scaled:
            yield _(
                "train.scaling={scaling}: stretches a trained net; choose one, such as base=long,"
                " or use train.scaling=none",
                scaling=recipe,
            )
        return
    if is_scaled:
        yield from _stretching(config, base)
    if (stretched := _stretched(config)) and config["scaling"]["kind"] != NO_SCALING:
        yield _(
            "scaling kind {kind}: a net fine-tuned under train.scaling={stretched} is read "
            "under that; use scaling=none",
            kind=config["scaling"]["kind"],
            stretched=stretched,
        )
    rules = (*_recipe(base), *_fine_tuning({**base, "scaling": {"kind": NO_SCALING}}))
    yield from (f"base.train={config['base']['train']}: {line}" for line in rules)


def _stretched(config: dict[str, Any] | None) -> str | None:
    """The RoPE scaling under which the net or its base was fine-tuned; None if under none."""
    if config is None:
        return None
    if _trained_scaling(config).kind != NO_SCALING:
        return str(config["train"]["scaling"])
    return _stretched(base_of(config))


def _stretching(config: dict[str, Any], base: dict[str, Any]) -> Iterator[str]:
    train, posenc = config["train"], component("posenc", config)
    if not posenc.facts.get("scalable"):
        yield _(
            "train.scaling={scaling}: stretches rotary positions, and posenc kind {kind} has "
            "none; use train.scaling=none or posenc=rope",
            scaling=train["scaling"],
            kind=posenc.kind,
        )
    if train["context"] <= base["train"]["context"]:
        yield _(
            "train.context={context}: not longer than the {base_len} tokens of "
            "base.train={base}, so there is nothing to stretch; use a longer one or "
            "train.scaling=none",
            context=train["context"],
            base_len=base["train"]["context"],
            base=config["base"]["train"],
        )
    if stretched := _stretched(base):
        yield _(
            "train.scaling={scaling}: the base was fine-tuned under train.scaling={stretched} "
            "itself; use train.scaling=none",
            scaling=train["scaling"],
            stretched=stretched,
        )


def _beyond_the_table(config: dict[str, Any], posenc: Component) -> Iterator[str]:
    limit = config["model"]["max_len"]
    window = config["task"].get("window", 0)
    if window > limit:
        yield _(
            "task.window={window}: does not fit the table of posenc kind {kind}, "
            "model.max_len={limit}; raise model.max_len or lower task.window",
            window=window,
            kind=posenc.kind,
            limit=limit,
        )
    for name, length in _texts(config):
        if length > limit:
            yield _(
                "{name}: {length} tokens do not fit the table of posenc kind {kind}, "
                "model.max_len={limit}; raise model.max_len",
                name=name,
                length=length,
                kind=posenc.kind,
                limit=limit,
            )


def _blocks(config: dict[str, Any]) -> Iterator[str]:
    block = config["cache"].get("block")
    longest = max((length for _, length in _texts(config)), default=0)
    if block is not None and 0 < longest < block:
        yield _(
            "cache.block={block}: longer than the longest text of eval and bench, {longest}"
            " tokens; lower cache.block or write more",
            block=block,
            longest=longest,
        )


def _unmasked(config: dict[str, Any]) -> Iterator[str]:
    """Without causality a token depends on those after it, which a cache does not have yet."""
    pattern, cache = component("pattern", config), component("cache", config)
    if pattern.facts["causal"]:
        return
    if cache.facts["stores"]:
        yield _(
            "pattern kind {pattern}: keys depend on later tokens, so none can be cached; use "
            "cache=none",
            pattern=pattern.kind,
        )
    for where, _length in _texts(config):
        yield _(
            "{where}: pattern kind {pattern} cannot generate text; use eval=score and bench=none",
            where=where,
            pattern=pattern.kind,
        )


def _coverage(config: dict[str, Any]) -> Iterator[str]:
    """A penalty for source tokens without attention needs a net that reads a source."""
    penalty = config["decoding"].get("coverage_penalty")
    if penalty and "source_target" not in component("arch", config).facts["reads"]:
        yield _(
            "decoding.coverage_penalty={penalty}: arch kind {arch} reads no source; use 0 or "
            "option=B",
            penalty=penalty,
            arch=component("arch", config).kind,
        )


def _guidance(config: dict[str, Any]) -> Iterator[str]:
    """A net that always had a source in training knows nothing of texts without one."""
    scale, arch = config["decoding"].get("guidance_scale", 1), component("arch", config)
    if (
        scale != 1
        and "source_target" in arch.facts["reads"]
        and not config["arch"]["source_dropout"]
    ):
        yield _(
            "decoding.guidance_scale={scale}: arch kind {arch} was never trained without a source; "
            "use 1, or train with arch.source_dropout=0.1",
            scale=scale,
            arch=arch.kind,
        )


def _texts(config: dict[str, Any]) -> Iterator[tuple[str, int]]:
    """(measure, tokens) of each measure that generates or benchmarks text, prompt included."""
    for group in LISTS:
        for name, entry in config[group]["measures"].items():
            written = entry.get("new_tokens", entry.get("length", 0))
            lengths = entry.get("lengths", []) if group == "bench" else []
            if longest := max([entry.get("prompt_len", 0) + written, *lengths]):
                yield f"{group}.measures.{name}", longest


def _out_of_place(config: dict[str, Any]) -> Iterator[str]:
    task = component("task", config)
    splits = task.facts["splits"].split()
    for name, entry in config["eval"]["measures"].items():
        if entry.get("split", splits[0]) not in splits:
            yield _(
                "{where}.split={split}: task kind {kind} has no such split; use {splits}",
                where=f"eval.measures.{name}",
                split=entry["split"],
                kind=task.kind,
                splits=" or ".join(splits),
            )
