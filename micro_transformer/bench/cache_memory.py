"""Cache memory by context length: bytes measured and predicted, RSS of the process, and speed.

Named as the cost it measures; `micro_transformer/memory.py` reads the process's own figures.
"""

import statistics
from collections.abc import Iterator

import torch

from micro_transformer.bench import timing
from micro_transformer.bench.decoding_speed import prompt
from micro_transformer.bench.peak_memory import peak_of
from micro_transformer.config.knobs import Count, Several
from micro_transformer.evals.base import EvalContext, Measure
from micro_transformer.generation import ModelStep
from micro_transformer.nn.cache.base import Cache

WARM_TOKENS = 8
Figures = Iterator[tuple[str, float | None]]


class Memory(Measure):
    """For each of `lengths`: a text of that many tokens, the last `decode_tokens` one at a time.

    The prompt is validation text, read in chunks at batch 1. Without a cache the whole text is
    computed at each step, of which `recompute_steps` are timed.
    """

    needs = ("tokens",)

    def __init__(self, *, lengths: list[Several], decode_tokens: Count, recompute_steps: Count):
        self.lengths = lengths
        self.decode_tokens, self.recompute_steps = decode_tokens, recompute_steps

    def run(self, subject: EvalContext) -> Figures:
        """Yields for each length N cache/...@N; all bytes are those of the end, at N tokens.

        cache/bytes, predicted_bytes and prediction_error, their difference over the bytes
        (None of no bytes); used_bytes, of the tokens held; host_bytes, file_bytes, transfers and
        transferred_bytes; the peak and the rise of rss_gb and of vram_gb (None without CUDA), and
        tokens_per_s, from the median of the steps. Error: OverBudget.
        """
        for length in sorted(self.lengths):
            for name, value in self._at(subject, length).items():
                yield f"cache/{name}@{length}", value

    @torch.inference_mode()
    def _at(self, subject: EvalContext, length: int) -> dict[str, float | None]:
        step = ModelStep(subject.model, subject.make_cache, max_len=length)
        seconds: list[float] = []
        rss, rise, vram = peak_of(
            lambda: seconds.extend(self._write(subject, step)), subject.device
        )
        assert step.cache is not None
        return {
            **_bytes(step.cache, length + subject.model.cached_prefix),
            "rss_gb": rss,
            "rss_delta_gb": rise,
            "vram_gb": vram,
            "tokens_per_s": 1 / statistics.median(seconds),
            "tokens_per_s/spread": timing.spread([1 / s for s in seconds]),
        }

    def _write(self, subject: EvalContext, step: ModelStep) -> list[float]:
        """Seconds of each timed step, in which the cache has max_len tokens."""
        ids = prompt(subject, step.max_len)
        num_steps = min(self.decode_tokens, step.max_len - 1)
        step(ids[:, :WARM_TOKENS])
        assert step.cache is not None
        if not step.cache.stores:
            num_steps = min(num_steps, self.recompute_steps)
        step.restart()
        step(ids[:, :-num_steps])
        seconds = []
        for column in range(step.max_len - num_steps, step.max_len):
            started = timing.clock(subject.device)
            step(ids[:, column : column + 1])
            seconds.append(timing.clock(subject.device) - started)
        return seconds


def _bytes(cache: Cache, length: int) -> dict[str, float | None]:
    layers = cache.layers
    held, predicted = cache.nbytes(), sum(layer.predicted_nbytes(length) for layer in layers)
    moved = [layer.traffic() for layer in layers]
    return {
        "bytes": held,
        "predicted_bytes": predicted,
        "prediction_error": abs(held - predicted) / held if held else None,
        "used_bytes": sum(layer.used_nbytes() for layer in layers),
        "host_bytes": sum(m.host_bytes for m in moved),
        "file_bytes": sum(m.file_bytes for m in moved),
        "transfers": sum(m.transfers for m in moved),
        "transferred_bytes": sum(m.transferred_bytes for m in moved),
    }
