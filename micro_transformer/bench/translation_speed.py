"""Bench: the time of translations under the chosen cache and decoding."""

import statistics
from collections.abc import Iterator, Sequence
from typing import Any

from micro_transformer.bench import timing
from micro_transformer.config.knobs import Count
from micro_transformer.evals.base import EvalContext, Measure
from micro_transformer.evals.sentences import translate
from micro_transformer.seeds import stream


class TranslationSpeed(Measure):
    """Seconds per sentence of the first `num` validation sources, in batches of similar length, and
    of `alone` of them one at a time."""

    needs = ("source_target",)

    def __init__(self, *, num: Count, alone: Count, length: Count, repeats: Count):
        self.num, self.alone, self.length, self.repeats = num, alone, length, repeats

    def run(self, subject: EvalContext) -> Iterator[tuple[str, float | None]]:
        """Yields translate/sentences_per_s, translate/latency_ms, the median of a sentence alone,
        and their interquartile ranges, over the repeats and over the sentences."""
        task: Any = subject.task
        sources = [source for source, _references in task.sentences("val", self.num)]
        times = self._seconds(subject, sources, repeats=self.repeats)
        rates = [len(sources) / seconds for seconds in times]
        yield "translate/sentences_per_s", statistics.median(rates)
        yield "translate/sentences_per_s/spread", timing.spread(rates)
        alone = [
            statistics.median(self._seconds(subject, [source], repeats=1))
            for source in sources[: self.alone]
        ]
        yield "translate/latency_ms", 1e3 * statistics.median(alone)
        yield "translate/latency_ms/spread", timing.scaled(1e3, timing.spread(alone))

    def _seconds(
        self, subject: EvalContext, sources: Sequence[str], *, repeats: int
    ) -> list[float]:
        def written() -> list[str]:
            return translate(
                subject.model,
                subject.task.tokenizer,
                sources,
                subject.strategy,
                self.length,
                make_layer=subject.make_cache,
                seed=stream(subject.seed, "bench"),
            )

        return timing.seconds(written, subject.device, repeats=repeats, warmup=1)
