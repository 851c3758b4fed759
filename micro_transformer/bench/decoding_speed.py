"""Decoding speed under the chosen cache and strategy, and its memory."""

import itertools
import statistics
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from micro_transformer.bench import timing
from micro_transformer.bench.peak_memory import peak_of
from micro_transformer.config.knobs import Count
from micro_transformer.decoding.base import Step, StepOutput
from micro_transformer.evals.base import EvalContext, Measure
from micro_transformer.generation import ModelStep, generate
from micro_transformer.seeds import stream

WARM_TOKENS = 16
Figures = Iterator[tuple[str, float | None]]
# A timed run: seconds to the first token; (context at the end, tokens, seconds) of each segment;
# how many of the tokens were timed one by one; bytes that the cache held at the end.
Timed = tuple[float, list[tuple[int, int, float]], int, int]


class DecodingSpeed(Measure):
    """Tokens per second at batch 1, prefill and decoding separately, with peak memory.

    The net writes `new_tokens` tokens, `repeats` times. Without a cache the time for that grows
    with the square of the length: then `recompute_steps` steps are timed in the middle of each
    segment as a sample of its steps. decode/timed_tokens is the number of timed tokens.
    """

    needs = ("tokens",)

    def __init__(
        self,
        *,
        prompt_len: Count,
        new_tokens: Count,
        segment: Count,
        repeats: Count,
        recompute_steps: Count,
    ):
        self.prompt_len, self.new_tokens = prompt_len, new_tokens
        self.segment, self.repeats, self.recompute_steps = segment, repeats, recompute_steps

    def run(self, subject: EvalContext) -> Figures:
        """Yields decode/..., cache/bytes and mem/peak_vram_gb (None without CUDA).

        The spread is the interquartile range over the repeats, of a single one over its segments.
        """
        *_, kept = self._stamps(subject, self.prompt_len, WARM_TOKENS)
        measure = self._cached if kept else self._recomputed
        runs: list[Timed] = []
        rss, rise, vram = peak_of(
            lambda: runs.extend(measure(subject) for _ in range(self.repeats)), subject.device
        )
        yield from _rates([segments for _, segments, _, _ in runs])
        yield "decode/ttft_ms", 1e3 * statistics.median(first for first, *_ in runs)
        yield "decode/timed_tokens", sum(timed for _, _, timed, _ in runs)
        yield "cache/bytes", max(held for *_, held in runs)
        yield "decode/peak_rss_gb", rss
        yield "decode/rss_delta_gb", rise
        yield "mem/peak_vram_gb", vram

    def _cached(self, subject: EvalContext) -> Timed:
        """Every token is generated and timed."""
        first, stamps, written, kept = self._stamps(subject, self.prompt_len, self.new_tokens)
        starts = range(1, written, self.segment)
        ends = [min(start + self.segment, written) for start in starts]
        times = [after - before for before, after in itertools.pairwise(stamps)]
        segments = [
            (self.prompt_len + end, end - start, seconds)
            for start, end, seconds in zip(starts, ends, times, strict=True)
        ]
        return first, segments, written - 1, kept

    def _recomputed(self, subject: EvalContext) -> Timed:
        """A few steps of each segment timed, and one at the full length for the memory."""
        first, *_ = self._stamps(subject, self.prompt_len, 2)
        segments = []
        for start in range(1, self.new_tokens, self.segment):
            end = min(start + self.segment, self.new_tokens)
            context = self.prompt_len + (start + end) // 2
            times = [self._second_step(subject, context) for _ in range(self.recompute_steps)]
            seconds = (end - start) * statistics.median(times)
            segments.append((self.prompt_len + end, end - start, seconds))
        self._second_step(subject, max(2, self.prompt_len + self.new_tokens - 1))
        return first, segments, len(segments) * self.recompute_steps, 0

    def _second_step(self, subject: EvalContext, context: int) -> float:
        """Seconds of the step at `context` tokens, after one that sets up the strategy."""
        _, (start, end), *_ = self._stamps(subject, context - 1, 2)
        return end - start

    def _stamps(
        self, subject: EvalContext, prompt_len: int, new_tokens: int
    ) -> tuple[float, list[float], int, int]:
        """Seconds to the first token; times then, after each segment and at the end; how many
        tokens were written; bytes held by the cache.
        """
        stamps: list[float] = []
        steps: list[ModelStep] = []
        calls = 0

        def watch(step: ModelStep) -> Step:
            def stamped(ids: Tensor, parents: Tensor | None = None) -> StepOutput:
                nonlocal calls
                if calls and (calls - 1) % self.segment == 0:
                    stamps.append(timing.clock(subject.device))
                calls += 1
                return step(ids, parents)

            steps.append(step)
            return stamped

        started = timing.clock(subject.device)
        write_tokens(subject, prompt_len, new_tokens, watch)
        stamps.append(timing.clock(subject.device))
        cache = steps[0].cache
        return stamps[0] - started, stamps, calls, cache.nbytes() if cache else 0


def write_tokens(
    subject: EvalContext, prompt_len: int, new_tokens: int, watch: Callable[..., Step] = lambda s: s
) -> None:
    """The model has generated `num` tokens at batch 1, after validation text."""
    generate(
        subject.model,
        prompt(subject, prompt_len),
        subject.strategy,
        new_tokens,
        make_layer=subject.make_cache,
        seed=stream(subject.seed, "bench"),
        watch=watch,
    )


def prompt(subject: EvalContext, length: int) -> Tensor:
    """(1, length) ids of validation text, repeated if it is shorter."""
    tokens = np.resize(np.asarray(subject.task.tokens("val")), length)
    return torch.from_numpy(tokens).long()[None].to(subject.device)


def _rates(runs: Sequence[Sequence[tuple[int, int, float]]]) -> Figures:
    """Tokens per second overall, their spread, and in the segment that ends at each context."""
    one_run = [tokens / seconds for _, tokens, seconds in runs[0]]
    overall = [
        sum(tokens for _, tokens, _ in run) / sum(seconds for *_, seconds in run)
        for run in runs
        if run
    ]
    yield "decode/tokens_per_s", statistics.median(overall) if overall else None
    yield "decode/tokens_per_s/spread", timing.spread(overall if len(runs) > 1 else one_run)
    for same in zip(*runs, strict=True):
        rate = statistics.median(tokens / seconds for _, tokens, seconds in same)
        yield f"decode/tokens_per_s@{same[0][0]}", rate
