"""Attention from the inside: a trace as text, the maps of all heads, scores that label heads.

Everything is read through the named identity seams of the net (`q`, `k`, `v` of each attention,
`scores` and `weights` of the manual kernel) on a copy whose kernel is the manual one, because the
others never form the weights.
"""

# B batch, H heads, T time, d head width

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from micro_transformer.nn.arch.base import Net
from micro_transformer.nn.kernels.manual import Manual

SEAMS = ("q", "k", "v", "scores", "weights")
# A head is named after a pattern when so much of its attention follows it, or for punctuation so
# much more than an even look would give. Untrained heads of 1m over 128 characters reach 0.04
# (previous, first), 0.14 (nearby), 0.01 (induction, punctuation).
THRESHOLDS = {"previous": 0.4, "nearby": 0.5, "first": 0.5, "induction": 0.3, "punctuation": 0.2}
NEARBY = 4  # tokens back
UNNAMED = "none"


def trace(model: Net, ids: Tensor) -> str:
    """Q, K, V, scores and weights of every layer for ids (B, T), as text: shapes, a few values."""
    lines = [f"ids {tuple(ids.shape)}"]

    def write(name: str, value: Tensor) -> None:
        shape = " x ".join(map(str, value.shape))
        lines.append(f"{name:<40} {shape:<20} {_first(value)}")

    probe = with_weights(model)
    with heard(probe, SEAMS, write), torch.inference_mode():
        logits = probe(ids)
    write("logits", logits)
    return "\n".join(lines)


def attention_maps(model: Net, ids: Tensor) -> list[Tensor]:
    """ids (B, T) -> the attention weights of each layer, (B, H, T, T) each: rows sum to 1, less
    what they have on a soft prompt."""
    maps: list[Tensor] = []
    num = ids.shape[1]
    probe = with_weights(model)
    with (
        heard(probe, ("weights",), lambda _, value: maps.append(value[..., -num:, -num:])),
        torch.inference_mode(),
    ):
        probe(ids)
    return maps


def with_weights(model: Net) -> Net:
    """A copy of the model, in evaluation mode, whose kernel forms the attention weights."""
    probe = copy.deepcopy(model).eval()
    probe.use_kernel(Manual)
    return probe


@contextmanager
def heard(
    model: nn.Module, seams: tuple[str, ...], listen: Callable[[str, Tensor], None]
) -> Iterator[None]:
    """Context manager in which each module of these names calls listen(path, output)."""
    with ExitStack() as stack:
        for path, module in model.named_modules():
            if path.rpartition(".")[2] in seams and not list(module.children()):
                hook = module.register_forward_hook(
                    lambda _module, _inputs, value, path=path: listen(path, value)
                )
                stack.callback(hook.remove)
        yield


def _first(value: Tensor, count: int = 4) -> str:
    """The first values of the last query of the first head, as an example."""
    row = value[0, 0] if value.ndim == 4 else value[0]
    return "[" + " ".join(f"{x:+.3f}" for x in row[-1].flatten()[:count].tolist()) + " ...]"


# Scores of one layer's maps A (B, H, T, T) -> (H,), each in [0, 1] but punctuation's, which may be
# below 0. Row i of A is what position i reads; row 0 can only read itself and is left out.


def previous(maps: Tensor) -> Tensor:
    """Mean of A[i, i-1]: 1 for a head that attends to the previous token."""
    return maps.diagonal(-1, -2, -1).mean((0, 2))


def nearby(maps: Tensor) -> Tensor:
    """Mean weight on the NEARBY previous tokens: a head that attends to the last few tokens."""
    near = maps.tril(-1).triu(-NEARBY).sum(-1)  # (B, H, T)
    return near[:, :, 1:].mean((0, 2))


def first(maps: Tensor) -> Tensor:
    """Mean of A[i, 0] over i > 1: an attention sink (Xiao et al., 2023). At 1 it is `previous`."""
    return maps[:, :, 2:, 0].mean((0, 2))


def induction(maps: Tensor, ids: Tensor) -> Tensor:
    """Mean weight on the tokens after earlier copies of the query's token (Olsson et al., 2022).

    Over the queries whose token, ids (B, T), occurred before; ids should be random and repeated,
    so that only the repetition can cause this weight.
    """
    same = ids[:, :, None] == ids[:, None, :]  # token i = token j
    after = torch.zeros_like(same)
    after[:, :, 1:] = same[:, :, :-1].tril(-1)  # key j + 1 with j < i
    asked = after.any(-1)  # (B, T)
    mass = (maps * after[:, None]).sum(-1)  # (B, H, T)
    return (mass * asked[:, None]).sum((0, 2)) / asked.sum().clamp(min=1)


def punctuation(maps: Tensor, marks: Tensor) -> Tensor:
    """Mean weight on punctuation, marks (B, T) bool, minus its share of the visible keys.

    Without the share every even head would seem to read it.
    """
    marks = marks.to(maps.dtype)
    mass = (maps * marks[:, None, None, :]).sum(-1)  # (B, H, T)
    seen = torch.arange(1, marks.shape[1] + 1, device=marks.device)
    share = marks.cumsum(1) / seen  # (B, T)
    return (mass - share[:, None])[:, :, 1:].mean((0, 2))


def entropy(maps: Tensor) -> Tensor:
    """Mean of entropy / ln(number of visible keys): 1 for uniform attention, 0 for one token."""
    nats = torch.special.entr(maps).sum(-1)[:, :, 1:]  # (B, H, T - 1)
    most = torch.arange(2, maps.shape[-1] + 1, device=maps.device).log()
    return (nats / most).mean((0, 2))


def repeated(vocab: range, length: int, batch: int, generator: torch.Generator) -> Tensor:
    """(batch, 2 * length): random ids, then the same again. Distinct up to the vocabulary size."""
    rounds = math.ceil(length / len(vocab))
    rows = [
        torch.cat([torch.randperm(len(vocab), generator=generator) for _ in range(rounds)])[:length]
        for _ in range(batch)
    ]
    half = torch.stack(rows) + vocab.start
    return torch.cat([half, half], 1)


def head_scores(
    model: Net, text: Tensor, marks: Tensor, random: Tensor
) -> list[dict[str, list[float]]]:
    """One dict per layer: score -> one value per head.

    text (B, T) and its punctuation marks (B, T) give all but induction, which `random` gives.
    """
    layers = []
    for on_text, on_random in zip(
        attention_maps(model, text), attention_maps(model, random), strict=True
    ):
        scores = {
            "previous": previous(on_text),
            "nearby": nearby(on_text),
            "first": first(on_text),
            "induction": induction(on_random, random),
            "punctuation": punctuation(on_text, marks),
            "entropy": entropy(on_text),
        }
        layers.append({name: value.tolist() for name, value in scores.items()})
    return layers


def label(scores: Mapping[str, float], control: Mapping[str, float]) -> str:
    """The pattern that a head follows most clearly, or "none".

    A score counts if it exceeds its threshold and `control`, the highest score of any head of the
    untrained net; of several, the one that exceeds its threshold most names the head.
    """
    clear = {
        name: scores[name] - limit
        for name, limit in THRESHOLDS.items()
        if scores[name] >= limit and scores[name] > control[name]
    }
    return max(clear, key=clear.__getitem__, default=UNNAMED)


def highest(layers: list[dict[str, list[float]]]) -> dict[str, float]:
    """score -> the highest value over all heads of all layers."""
    return {name: max(max(layer[name]) for layer in layers) for name in layers[0]}
