"""What happens inside attention: a trace in words, maps of every head, scores that name heads.

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

from micro_transformer.nn.arch.decoder import DecoderLM
from micro_transformer.nn.kernels.manual import Manual

SEAMS = ("q", "k", "v", "scores", "weights")
# A head is named after a pattern when so much of its attention follows it, or for punctuation so
# much more than an even look would give. Untrained heads of 1m over 128 characters reach 0.04
# (previous, first), 0.14 (nearby), 0.01 (induction, punctuation).
THRESHOLDS = {"previous": 0.4, "nearby": 0.5, "first": 0.5, "induction": 0.3, "punctuation": 0.2}
NEARBY = 4  # tokens back
UNNAMED = "none"


def trace(model: DecoderLM, ids: Tensor) -> str:
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


def attention_maps(model: DecoderLM, ids: Tensor) -> list[Tensor]:
    """ids (B, T) -> the attention weights of each layer, (B, H, T, T) each: rows sum to 1."""
    maps: list[Tensor] = []
    probe = with_weights(model)
    with heard(probe, ("weights",), lambda _, value: maps.append(value)), torch.inference_mode():
        probe(ids)
    return maps


def with_weights(model: DecoderLM) -> DecoderLM:
    """A copy of the model, in evaluation mode, whose kernel forms the attention weights."""
    probe = copy.deepcopy(model).eval()
    probe.use_kernel(Manual)
    return probe


@contextmanager
def heard(
    model: nn.Module, seams: tuple[str, ...], listen: Callable[[str, Tensor], None]
) -> Iterator[None]:
    """Inside, every seam of these names calls listen(path, value) when the model runs."""
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
    """Mean of A[i, i-1]: 1 for a head that reads the token before."""
    return maps.diagonal(-1, -2, -1).mean((0, 2))


def nearby(maps: Tensor) -> Tensor:
    """Mean mass on the NEARBY tokens before: a head that reads the last few characters."""
    near = maps.tril(-1).triu(-NEARBY).sum(-1)  # (B, H, T)
    return near[:, :, 1:].mean((0, 2))


def first(maps: Tensor) -> Tensor:
    """Mean of A[i, 0] over i > 1: an attention sink (Xiao et al., 2023). At 1 it is `previous`."""
    return maps[:, :, 2:, 0].mean((0, 2))


def induction(maps: Tensor, ids: Tensor) -> Tensor:
    """Mean mass on what followed earlier occurrences of the token read (Olsson et al., 2022).

    Over the queries whose token, ids (B, T), occurred before; ids should be random and repeated,
    so that nothing but the repetition can lead there.
    """
    same = ids[:, :, None] == ids[:, None, :]  # token i = token j
    after = torch.zeros_like(same)
    after[:, :, 1:] = same[:, :, :-1].tril(-1)  # key j + 1 with j < i
    asked = after.any(-1)  # (B, T)
    mass = (maps * after[:, None]).sum(-1)  # (B, H, T)
    return (mass * asked[:, None]).sum((0, 2)) / asked.sum().clamp(min=1)


def punctuation(maps: Tensor, marks: Tensor) -> Tensor:
    """Mean mass on punctuation, marks (B, T) bool, less its share of the keys seen.

    Without the share every even head would seem to read it.
    """
    marks = marks.to(maps.dtype)
    mass = (maps * marks[:, None, None, :]).sum(-1)  # (B, H, T)
    seen = torch.arange(1, marks.shape[1] + 1, device=marks.device)
    share = marks.cumsum(1) / seen  # (B, T)
    return (mass - share[:, None])[:, :, 1:].mean((0, 2))


def entropy(maps: Tensor) -> Tensor:
    """Mean entropy of the rows over ln(keys seen): 1 is an even look, 0 a look at one token."""
    nats = torch.special.entr(maps).sum(-1)[:, :, 1:]  # (B, H, T - 1)
    most = torch.arange(2, maps.shape[-1] + 1, device=maps.device).log()
    return (nats / most).mean((0, 2))


def repeated(vocab: range, length: int, batch: int, generator: torch.Generator) -> Tensor:
    """(batch, 2 * length): random ids, then the same again. Distinct while the vocabulary lasts."""
    rounds = math.ceil(length / len(vocab))
    rows = [
        torch.cat([torch.randperm(len(vocab), generator=generator) for _ in range(rounds)])[:length]
        for _ in range(batch)
    ]
    half = torch.stack(rows) + vocab.start
    return torch.cat([half, half], 1)


def head_scores(
    model: DecoderLM, text: Tensor, marks: Tensor, random: Tensor
) -> list[dict[str, list[float]]]:
    """One dict a layer: score -> one value a head.

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

    A score counts when it is over its threshold and over `control`, the highest that any head of
    the untrained net reaches; of several the one most above its threshold names the head.
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
