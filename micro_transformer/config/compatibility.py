"""Finds invalid combinations: values that are valid alone but not together.

Each broken rule is one line: the keys with their values, the rule, the cure. Needs no torch.
"""

from collections.abc import Iterator
from typing import Any

from micro_transformer.config.components import Component, find
from micro_transformer.config.schema import LISTS, NO_SCALING, component, origin, read_choice


def conflicts(config: dict[str, Any]) -> list[str]:
    """The rules that the configuration breaks, one line each; its single values must be valid."""
    rules = (_heads, _positions, _recipe, _fine_tuning, _caches)
    return [line for rule in rules for line in rule(config)]


def beyond_the_text(config: dict[str, Any], tokens: dict[str, int]) -> list[str]:
    """The rules that the configuration breaks given its data: excerpts longer than their split, and
    splits that the task lacks. tokens: number of tokens per split; empty for a task that generates
    its data, which breaks none."""
    lines = []
    for where, split, num in _excerpts(config) if tokens else ():
        if split not in tokens:
            lines.append(f"{where}.split={split}: must be one of the task's, {', '.join(tokens)}")
        elif num + (split == "train") > tokens[split]:  # training needs one more token as target
            had = f"the {split} split has only {tokens[split]} tokens"
            lines.append(f"{where}={num}: {had}; lower it or prepare a longer text")
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


def _heads(config: dict[str, Any]) -> Iterator[str]:
    sizes = config["model"]
    head_dim, rest = divmod(sizes["d_model"], sizes["num_heads"])
    said = f"model.d_model={sizes['d_model']}, model.num_heads={sizes['num_heads']}: "
    posenc, scaling = component("posenc", config), component("scaling", config)
    if rest:
        yield said + "the width must be a multiple of the heads; change one of them"
    elif posenc.facts.get("pairs_channels") and head_dim % 2:
        yield said + (
            f"heads of {head_dim} channels cannot be turned in pairs; "
            f"posenc kind {posenc.kind} needs an even head width"
        )
    elif head_dim == 2:
        for each in (scaling, _trained_scaling(config)):
            if each.facts.get("divides_by_width_less_two"):
                yield said + f"scaling kind {each.kind} needs heads of more than 2 channels"


def _positions(config: dict[str, Any]) -> Iterator[str]:
    posenc, scaling = component("posenc", config), component("scaling", config)
    if scaling.kind != NO_SCALING and not posenc.facts.get("scalable"):
        yield (
            f"scaling kind {scaling.kind}: stretches rotary positions, and posenc kind "
            f"{posenc.kind} has none; use scaling=none or posenc=rope"
        )
    fast, slow = (config["scaling"].get(f"beta_{name}") for name in ("fast", "slow"))
    if fast is not None and slow is not None and fast <= slow:
        yield (
            f"scaling.beta_fast={fast:g}: must be above scaling.beta_slow={slow:g}, "
            "as the pairs between them are blended"
        )
    if posenc.facts.get("trained_table"):
        yield from _beyond_the_table(config, posenc)
    yield from _out_of_place(config)


def _recipe(config: dict[str, Any]) -> Iterator[str]:
    train, max_len = config["train"], config["model"]["max_len"]
    if train["context"] > max_len:
        yield (
            f"train.context={train['context']}: longer than model.max_len={max_len}; "
            "raise model.max_len"
        )
    if train["batch_size"] % config["ranks"]:
        yield (
            f"train.batch_size={train['batch_size']}: {config['ranks']} ranks take equal shares of "
            "a batch; make it a multiple"
        )
    if len(train["betas"]) != 2:
        yield f"train.betas={train['betas']}: must be two numbers"
    if train["precision"] == "fp16" and config["device"] == "cpu":
        yield "train.precision=fp16: needs device=cuda; use train.precision=bf16 or fp32"
    if train["warmup_steps"] >= train["steps"]:
        yield (
            f"train.warmup_steps={train['warmup_steps']}: must be less than "
            f"train.steps={train['steps']}; nothing would be trained at the full rate"
        )


def _trained_scaling(config: dict[str, Any]) -> Component:
    return find("scaling", read_choice("scaling", config["train"]["scaling"], config)["kind"])


def _fine_tuning(config: dict[str, Any]) -> Iterator[str]:
    """Broken rules of fine-tuning: a recipe that starts from the weights of another recipe."""
    train, start, scaling = config["train"], origin(config), _trained_scaling(config)
    is_scaled = scaling.kind != NO_SCALING
    if start is None:
        if is_scaled:
            yield (
                f"train.scaling={train['scaling']}: stretches a trained net; name its recipe as "
                "train.base, or use train.scaling=none"
            )
        return
    base = start["train"]
    if base["base"] is not None:
        yield (
            f"train.base={train['base']}: starts from other weights itself, those of "
            f"{base['base']}; name a recipe that starts from fresh ones"
        )
        return
    if is_scaled:
        yield from _stretching(config, scaling, base["context"])
    yield from (
        f"train.base={train['base']}: {line}" for line in _recipe({**config, "train": base})
    )


def _stretching(config: dict[str, Any], scaling: Component, base_len: int) -> Iterator[str]:
    train, posenc = config["train"], component("posenc", config)
    if not posenc.facts.get("scalable"):
        yield (
            f"train.scaling={train['scaling']}: stretches rotary positions, and posenc kind "
            f"{posenc.kind} has none; use train.scaling=none or posenc=rope"
        )
    if train["context"] <= base_len:
        yield (
            f"train.context={train['context']}: not longer than the {base_len} tokens of "
            f"train.base={train['base']}, so there is nothing to stretch; use a longer one or "
            "train.scaling=none"
        )
    if config["scaling"]["kind"] != NO_SCALING:
        yield (
            f"scaling kind {config['scaling']['kind']}: a net fine-tuned under "
            f"train.scaling={train['scaling']} is read under that; use scaling=none"
        )


def _beyond_the_table(config: dict[str, Any], posenc: Component) -> Iterator[str]:
    limit = config["model"]["max_len"]
    window = config["task"].get("window", 0)
    if window > limit:
        yield (
            f"task.window={window}: does not fit the table of posenc kind {posenc.kind}, "
            f"model.max_len={limit}; raise model.max_len or lower task.window"
        )
    for name, length in _texts(config):
        if length > limit:
            yield (
                f"{name}: {length} tokens do not fit the table of posenc kind "
                f"{posenc.kind}, model.max_len={limit}; raise model.max_len"
            )


def _caches(config: dict[str, Any]) -> Iterator[str]:
    knobs = config["cache"]
    block, group, window = (knobs.get(name) for name in ("block", "group", "window"))
    longest = max((length for _, length in _texts(config)), default=0)
    if block is not None and 0 < longest < block:
        yield (
            f"cache.block={block}: longer than the longest text of eval and bench, {longest} "
            "tokens; lower cache.block or write more"
        )
    if window is not None and knobs.get("sinks", 0) > window:
        yield (
            f"cache.sinks={knobs['sinks']}: more than cache.window={window}; "
            "lower cache.sinks or raise cache.window"
        )
    if group is not None and block is not None and block % group:
        yield f"cache.block={block}: must be a multiple of cache.group={group}; change one of them"
    if group is not None and knobs.get("residual", group) < group:
        yield (
            f"cache.residual={knobs['residual']}: a group waits there until it is whole; must be "
            f"cache.group={group} at least"
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
        where, needs = f"eval.measures.{name}", find("eval", entry["kind"]).facts.get("needs")
        if needs not in (None, task.facts.get("gives")):
            yield (
                f"{where}: kind {entry['kind']} needs a task that gives {needs}, "
                f"and {task.kind} does not; change task or eval"
            )
        if entry.get("split", splits[0]) not in splits:
            yield (
                f"{where}.split={entry['split']}: task kind {task.kind} has no such split; "
                f"use {' or '.join(splits)}"
            )
