"""Meaning of metric and cost keys: label, unit, direction, smallest difference that matters."""

import math
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from micro_transformer.wording import N_, translate


@dataclass(frozen=True)
class Measure:
    """One measured quantity. A ratio is compared by quotients, the others by differences."""

    key: str
    name: str  # in English; {} is the place, of a figure that has one
    unit: str
    lower_is_better: bool
    margin: float  # a smaller difference (of a ratio: share) is of no practical interest
    is_ratio: bool = False
    place: str = ""

    @property
    def label(self) -> str:
        """The name in the user's language, with its length."""
        return translate(self.name).format(self.place)

    @property
    def bound(self) -> float:
        """The margin on the scale of comparison: differences, or logarithms of ratios."""
        return math.log1p(self.margin) if self.is_ratio else self.margin

    @property
    def title(self) -> str:
        """Label with the unit, as a column or an axis names it."""
        return f"{self.label} ({self.unit})" if self.unit else self.label


def _cost(key: str, name: str, unit: str, lower_is_better: bool = True) -> Measure:
    return Measure(key, name, unit, lower_is_better, margin=0.05, is_ratio=True)


LOSS = Measure("val/loss", N_("Validation loss"), "nats", True, margin=0.01)
PPL = Measure("val/ppl", N_("PPL"), "", True, margin=0.05)
BITS = Measure("val/bits_per_byte", N_("Bits per byte"), "bits", True, margin=0.01)
TOKENS_PER_S = _cost("decode/tokens_per_s", N_("Tokens/s"), "", False)
TTFT = _cost("decode/ttft_ms", N_("Time to first token"), "ms")
TRANSLATIONS_PER_S = _cost("translate/sentences_per_s", N_("Translations/s"), "", False)
LATENCY = _cost("translate/latency_ms", N_("Latency per sentence"), "ms")
MS_PER_BATCH = _cost("train/ms_per_batch", N_("ms/batch"), "")
TRAIN_TOKENS = _cost("train/tokens_per_s", N_("Training tokens/s"), "", False)
VRAM = _cost("mem/peak_vram_gb", N_("Peak VRAM"), "GB")
RSS = _cost("decode/peak_rss_gb", N_("Peak RSS, decoding"), "GB")
TRAIN_RSS = _cost("train/peak_rss_gb", N_("Peak RSS, training"), "GB")
SENTENCES_PER_S = _cost("encode/sentences_per_s", N_("Sentences/s"), "", False)
CACHE = _cost("cache/bytes", N_("Cache"), "bytes")

_KNOWN = {
    m.key: m
    for m in (
        LOSS, PPL, BITS, TOKENS_PER_S, TTFT, MS_PER_BATCH, TRAIN_TOKENS, VRAM, RSS, TRAIN_RSS,
        CACHE, SENTENCES_PER_S, TRANSLATIONS_PER_S, LATENCY,
        Measure("val/bleu", N_("BLEU, validation"), "", False, margin=0.5),
        Measure("val/chrf", N_("chrF++, validation"), "", False, margin=0.5),
        Measure("val/exact", N_("Exact translations, validation"), "", False, margin=0.01),
        Measure("val/repetition", N_("Repeated 4-grams, validation"), "", True, margin=0.01),
        Measure("test/exact", N_("Exact translations"), "", False, margin=0.01),
        Measure("test/repetition", N_("Repeated 4-grams"), "", True, margin=0.01),
        Measure("test/bleu", N_("BLEU"), "", False, margin=0.5),
        Measure("test/chrf", N_("chrF++"), "", False, margin=0.5),
        Measure("val/f1_macro", N_("Macro F1, validation"), "", False, margin=0.01),
        Measure("val/accuracy", N_("Accuracy, validation"), "", False, margin=0.01),
        Measure("val/ece", N_("Calibration error, validation"), "", True, margin=0.01),
        Measure("test/ece", N_("Calibration error"), "", True, margin=0.01),
        Measure("test/f1_macro", N_("Macro F1"), "", False, margin=0.01),
        Measure("test/accuracy", N_("Accuracy"), "", False, margin=0.01),
        Measure("val/recall", N_("Recall"), "", False, margin=0.05),
        Measure(
            "recall/trained_length", N_("Recall at the trained length"), "", False, margin=0.05
        ),
        Measure("experts/share_min", N_("Least expert load"), "", False, margin=0.01),
        Measure("experts/share_max", N_("Largest expert load"), "", True, margin=0.01),
        Measure("experts/dead", N_("Dead experts"), "", True, margin=0.5),
        Measure("experts/cv", N_("Load CV"), "", True, margin=0.05),
        Measure("experts/gini", N_("Load Gini"), "", True, margin=0.05),
        Measure("experts/entropy", N_("Router entropy / ln E"), "", True, margin=0.05),
        _cost("experts/flops_per_token_counted", N_("FLOPs/token, counted"), ""),
        _cost("experts/attention_flops_per_token", N_("Attention FLOPs/token"), ""),
    )
}  # fmt: skip
# Judges runs whose records do not state their task's quality, or did not measure it: the first
# that is known.
QUALITY = ("recall/trained_length", "val/loss")
SPEED = (
    TOKENS_PER_S,
    TTFT,
    TRANSLATIONS_PER_S,
    LATENCY,
    MS_PER_BATCH,
    TRAIN_TOKENS,
    RSS,
    TRAIN_RSS,
    VRAM,
    CACHE,
)
_FALLING = ("loss", "ppl", "bits", "_ms", "ms_", "seconds", "bytes", "_gb", "perplexity")


# What is measured at several places: {} is the rest of the key.
_PLACED = {
    m.key: m
    for m in (
        Measure("ppl/", N_("PPL, {}"), "", True, margin=0.05),
        Measure("context/loss@", N_("Loss with {} tokens of context"), "nats", True, margin=0.01),
        Measure("recall/accuracy@", N_("Recall at {} tokens"), "", False, margin=0.05),
        Measure("needle/accuracy@", N_("Needle at {} tokens"), "", False, margin=0.05),
        Measure("experts/cv/", N_("Load CV, layer {}"), "", True, margin=0.05),
        Measure("experts/entropy/", N_("Router entropy / ln E, layer {}"), "", True, margin=0.05),
        _cost("cache/bytes@", N_("Cache at {} tokens"), "bytes"),
        _cost("cache/predicted_bytes@", N_("Cache at {} tokens, predicted"), "bytes"),
        _cost("cache/rss_gb@", N_("Peak RSS at {} tokens"), "GB"),
        _cost("cache/tokens_per_s@", N_("Tokens/s at {} tokens"), "", False),
    )
}
# What belongs to another figure and is none to judge by: counts, bounds, chance, lengths.
_BESIDE = re.compile(r"n/|[^@]*/(n|low|high|chance|majority|length_ratio)(@|$)")


def measure(key: str) -> Measure:
    """What a key means; an unknown one is judged by its name (losses, times and sizes: less)."""
    if key in _KNOWN:
        return _KNOWN[key]
    for start, placed in _PLACED.items():
        if key.startswith(start):
            return replace(placed, key=key, place=key.removeprefix(start))
    return Measure(key, "{}", "", any(word in key for word in _FALLING), margin=0.01, place=key)


def quality(keys: Collection[str], stated: Mapping[str, Any] = {}) -> Measure | None:  # noqa: B006
    """The measure that runs with these metrics are judged by; None if there is none. stated: the
    quality of their task, as in a record."""
    if stated and stated["name"] in keys:
        return replace(measure(stated["name"]), lower_is_better=stated["lower_is_better"])
    judged = sorted(key for key in keys if not _BESIDE.match(key))
    named = [key for key in QUALITY if key in judged]
    return measure((named or judged)[0]) if judged else None


def is_beside(key: str) -> bool:
    """Whether a key is a count, a bound or a baseline of another figure."""
    return bool(_BESIDE.match(key))


def places(keys: Iterable[str], start: str) -> dict[int, str]:
    """Maps length -> key for the keys `start@length`, shortest first."""
    found = (key for key in keys if key.startswith(start + "@"))
    named = {int(key.split("@")[1]): key for key in found if key.split("@")[1].isdecimal()}
    return dict(sorted(named.items()))


def stretches(keys: Iterable[str]) -> dict[str, str]:
    """Stretch (`1k-4k`) → key `ppl/1k-4k`, in the order of the text."""
    found = [key.removeprefix("ppl/") for key in keys if re.fullmatch(r"ppl/\d+k?-\d+k?", key)]
    return {name: f"ppl/{name}" for name in sorted(found, key=lambda n: tokens(n.split("-")[0]))}


def end_of(key: str) -> int | None:
    """Last token that a metric by length needs: 8192 of `ppl/4k-8k` and `context/loss@8192`;
    None for other metrics."""
    if match := re.fullmatch(r"(?:ppl|n)/\d+k?-(\d+k?)|[^@]+@(\d+)", key):
        return tokens(match[1] or match[2])
    return None


def has_place(key: str) -> bool:
    """Whether a metric is one of several by length."""
    return end_of(key) is not None


def tokens(text: str) -> int:
    """`4k` → 4096."""
    return int(text[:-1]) * 1024 if text.endswith("k") else int(text)
