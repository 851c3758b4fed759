"""Parses the files of a snapshot and checks that they fit the model.

The manifest proves only that the files are as written. Here state, tensor names, shapes and dtypes
are checked before anything is loaded; Damaged names what does not fit.
"""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from micro_transformer import disk
from micro_transformer.store.checkpoints import Damaged
from micro_transformer.wording import _

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTS, STATE = "weights.safetensors", "state.json"


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_history(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(line, dict) and _is_count(line.get("step")) for line in value
    )


def _is_figures(value: Any) -> bool:
    return isinstance(value, dict) and all(v is None or _is_number(v) for v in value.values())


def _is_reference(value: Any) -> bool:
    """Fingerprint and SHA-256 of the weights that these complete, where there are such."""
    names = {"training", "weights"}
    return value is None or (
        isinstance(value, dict)
        and value.keys() == names
        and all(isinstance(text, str) for text in value.values())
    )


_RULES: dict[str, Callable[[Any], bool]] = {
    "step": _is_count,
    "best": lambda value: value is None or _is_number(value),
    "best_step": _is_count,
    "bad_evaluations": _is_count,
    "stopped_early": lambda value: isinstance(value, bool),
    "train_seconds": _is_number,
    "resumes": _is_count,
    "cost": _is_figures,
    "history": _is_history,
}


def state_of(files: dict[str, bytes]) -> dict[str, Any]:
    """The training state in a snapshot; raises Damaged if a field is missing or malformed."""
    try:
        state = disk.parse_json(_file(files, STATE))
    except disk.Unreadable as error:
        raise Damaged(f"{STATE}: {error}") from error
    progress = state.get("progress") if isinstance(state, dict) else None
    if not isinstance(progress, dict) or not _RULES.keys() <= progress.keys():
        raise Damaged(_("{file}: not the state of a training", file=STATE))
    for name, holds in _RULES.items():
        if not holds(progress[name]):
            raise Damaged(
                _(
                    "{file}: progress.{name} is {value}",
                    file=STATE,
                    name=name,
                    value=repr(str(progress[name])[:40]),
                )
            )
    if not _is_reference(progress.get("base")):
        raise Damaged(_("{file}: progress.base names no training", file=STATE))
    if not _is_figures(state.get("scaler")):
        raise Damaged(_("{file}: has no scaler", file=STATE))
    return state


def progress_of(files: dict[str, bytes]) -> dict[str, Any]:
    """The progress in a snapshot: step, best loss, history; Damaged if malformed."""
    return state_of(files)["progress"]


def tensors_of(files: dict[str, bytes], name: str) -> "dict[str, Tensor]":
    """The tensors in a file of a snapshot; raises Damaged if unreadable or not finite."""
    import safetensors
    import safetensors.torch

    try:
        tensors = safetensors.torch.load(_file(files, name))
    except (safetensors.SafetensorError, ValueError, KeyError, RuntimeError) as error:
        raise Damaged(
            _("{file}: no tensors: {error:.100}", file=name, error=" ".join(str(error).split()))
        ) from error
    for key, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise Damaged(_("{file}: {key:.60} has values that are not finite", file=name, key=key))
    return tensors


def weights_of(
    files: dict[str, bytes], like: "dict[str, Tensor]", name: str = WEIGHTS
) -> "dict[str, Tensor]":
    """The weights in a snapshot; raises Damaged unless names, shapes and dtypes equal `like`'s."""
    tensors = tensors_of(files, name)
    for key in sorted(tensors.keys() ^ like.keys()):
        raise Damaged(
            (
                _("{file}: {key:.60} is missing")
                if key in like
                else _("{file}: {key:.60} is of another net")
            ).format(file=name, key=key)
        )
    for key, tensor in tensors.items():
        found, wanted = (
            (tuple(tensor.shape), tensor.dtype),
            (tuple(like[key].shape), like[key].dtype),
        )
        if found != wanted:
            raise Damaged(
                _(
                    "{file}: {key:.60} is {found}, must be {wanted}",
                    file=name,
                    key=key,
                    found=found,
                    wanted=wanted,
                )
            )
    return tensors


def _file(files: dict[str, bytes], name: str) -> bytes:
    if name not in files:
        raise Damaged(_("{file}: not in the manifest", file=name))
    return files[name]
