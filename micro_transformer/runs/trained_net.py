"""The net of a training: as it starts from its base, and as it was stored.

Of a net with an adapter only what it trains is stored, with the fingerprint of its base and the
SHA-256 of the base's weights; both are checked before the two are put together.
"""

import hashlib
from typing import Any, NamedTuple

from micro_transformer.build import measuring, training
from micro_transformer.config.base import start_of
from micro_transformer.config.components import make
from micro_transformer.nn.arch.base import Net
from micro_transformer.nn.pretrained import HEAD, take_weights
from micro_transformer.store.checkpoints import Damaged, Entry
from micro_transformer.store.contents import WEIGHTS, state_of, weights_of
from micro_transformer.tasks.base import Task
from micro_transformer.wording import _

Config = dict[str, Any]


class Start(NamedTuple):
    """A net before its first step.

    fresh: names of the parameters that the base did not give. cost: of the base's training, as
    `base/<cost>`. base: `training` and `weights`, fingerprint and SHA-256 of what is needed besides
    the parameters that are trained; None where all of them are, or no base gives the others.
    """

    net: Net
    fresh: tuple[str, ...] = ()
    cost: dict[str, float | None] = {}  # noqa: RUF012 - never changed
    base: dict[str, str] | None = None


def start(config: Config, task: Task, base: Entry | None) -> Start:
    """The net with the weights of its base, if it has one, and with its adapter. A head that
    predicts something else keeps its initial weights. Raises Damaged if the base is corrupted,
    ValueError if it does not fit."""
    net, before = training.build_model(config, task), start_of(config)
    if base is None or before is None:
        return Start(training.adapted(net, config))
    files, its_task = base.read(), training.build_task(before)
    its_net = training.build_model(before, its_task)
    cost = _take(its_net, files, base)["progress"]["cost"]
    own = () if its_task.classes == task.classes else (HEAD,)
    take_weights(net, its_net, own)
    fresh = tuple(name for name, _weight in net.named_parameters() if name.partition(".")[0] in own)
    training.adapted(net, config, fresh)
    is_whole = all(p.requires_grad for p in net.parameters())
    return Start(
        net,
        fresh,
        {f"base/{name}": value for name, value in cost.items()},
        None if is_whole else {"training": base.fingerprint, "weights": _sha256(files)},
    )


def load(config: Config, entry: Entry, task: Task) -> tuple[Start, dict[str, Any]]:
    """The net with its stored weights in evaluation mode, its adapter merged where it can be, with
    the kernel and RoPE scaling configured for evaluation; and its training state. Raises Damaged if
    a file is corrupted or does not fit, or the base that it needs is not there."""
    files = entry.read()
    state = _state(files, entry)
    needed = state["progress"].get("base")
    begun = start(config, task, None if needed is None else _found(entry, needed))
    _take(begun.net, files, entry, is_whole=needed is None)
    make("adapter", config["adapter"]).merge(begun.net.eval())
    begun.net.use_kernel(training.kernel_maker(config["attention"]))
    measuring.stretch(begun.net, config)
    return begun, state


def _found(entry: Entry, needed: dict[str, str]) -> Entry:
    """The base in the store of the entry, with the weights that its adapter was trained on."""
    base = Entry(entry.folder.parent, needed["training"])
    try:
        has_changed = _sha256(base.read()) != needed["weights"]
    except Damaged as damage:
        raise Damaged(
            _(
                "{folder}: has an adapter alone and needs its base, training {base}: {damage}; run "
                "its job again, which trains the base",
                folder=entry.folder,
                base=needed["training"],
                damage=damage,
            )
        ) from damage
    if has_changed:
        raise Damaged(
            _(
                "{folder}: adapts other weights than its base, training {base}, has now",
                folder=entry.folder,
                base=needed["training"],
            )
        )
    return base


def _take(net: Net, files: dict[str, bytes], entry: Entry, is_whole: bool = True) -> dict[str, Any]:
    """The net has the weights in the files of an entry, all or those that it trains; returns the
    training state."""
    state = _state(files, entry)
    try:
        weights = weights_of(files, net.state_dict() if is_whole else net.trained_state())
    except Damaged as damage:
        raise Damaged(f"{entry.final}/{damage}") from damage
    net.load_state_dict(weights, strict=is_whole)
    return state


def _state(files: dict[str, bytes], entry: Entry) -> dict[str, Any]:
    try:
        return state_of(files)
    except Damaged as damage:
        raise Damaged(f"{entry.final}/{damage}") from damage


def _sha256(files: dict[str, bytes]) -> str:
    return hashlib.sha256(files[WEIGHTS]).hexdigest()
