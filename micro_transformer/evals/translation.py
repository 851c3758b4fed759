"""Translations of a split under the chosen decoding, against their references."""

import json
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from micro_transformer.config.knobs import Count
from micro_transformer.disk import write_file
from micro_transformer.evals.base import EvalContext, Measure
from micro_transformer.evals.sentences import translate
from micro_transformer.records.run_record import SAMPLE_MARK, SAMPLES, TRANSLATION_SCORES
from micro_transformer.seeds import stream
from micro_transformer.stats import text_diversity, translation_metrics
from micro_transformer.wording import _

TABLE = "translations.{split}.tsv"
SHOWN = 5  # translations in samples.txt


class Translation(Measure):
    """BLEU, chrF++ and more of the first `num` sources of a split, which is in random order.

    translations.<split>.tsv: source, translation, references. translation_scores.<split>.json: the
    scores with the signatures of sacreBLEU, without which they compare with nothing, and the counts
    of BLEU per sentence, from which a report has the interval over sentences. samples.txt: the
    first SHOWN, as a person reads them.
    """

    needs = ("source_target",)

    def __init__(self, *, split: Literal["val", "test"] = "val", num: Count, length: Count):
        self.split, self.num, self.length = split, num, length

    def run(self, subject: EvalContext) -> Iterator[tuple[str, float | None]]:
        """Yields <split>/bleu, chrf (chrF++), exact, length_ratio, repetition, distinct_2 and n,
        the number of sources."""
        task: Any = subject.task
        pairs = task.sentences(self.split, self.num)
        sources, references = [list(column) for column in zip(*pairs, strict=True)]
        written = [
            one_line(text)
            for text in translate(
                subject.model,
                task.tokenizer,
                sources,
                subject.strategy,
                self.length,
                make_layer=subject.make_cache,
                seed=stream(subject.seed, "translations"),
            )
        ]
        write_file(
            subject.folder / TABLE.format(split=self.split),
            _table(sources, written, references).encode(),
        )
        write_file(subject.folder / SAMPLES, _page(sources, written, references).encode())
        bleu, bleu_signature = translation_metrics.score("bleu", written, references)
        chrf, chrf_signature = translation_metrics.score("chrf", written, references)
        page = {
            "split": self.split,
            "sources": len(sources),
            "bleu": {
                "score": bleu,
                "signature": bleu_signature,
                "statistics": translation_metrics.statistics("bleu", written, references)
                .astype(int)
                .tolist(),
            },
            "chrf++": {"score": chrf, "signature": chrf_signature},
        }
        write_file(
            subject.folder / TRANSLATION_SCORES.format(split=self.split),
            json.dumps(page).encode(),
        )
        figures = {
            "bleu": bleu,
            "chrf": chrf,
            "exact": translation_metrics.exact(written, references),
            "length_ratio": translation_metrics.length_ratio(written, references),
            "repetition": text_diversity.repetition(written),
            "distinct_2": text_diversity.distinct(written, 2),
            "n": len(sources),
        }
        for name, value in figures.items():
            yield f"{self.split}/{name}", value


def one_line(text: str) -> str:
    """The text in one line, without control characters, words apart by one space."""
    return " ".join("".join(c for c in text if c.isprintable() or c.isspace()).split())


def _page(sources: Sequence[str], written: Sequence[str], references: Sequence[list[str]]) -> str:
    """Source, translation and first reference of a few sentences."""
    shown = list(zip(sources, written, references, strict=True))[:SHOWN]
    return "\n".join(
        f"{SAMPLE_MARK} {i}\n{_('source')}: {one_line(source)}\n"
        f"{_('translation')}: {one_line(text)}\n{_('reference')}: {one_line(of[0])}\n"
        for i, (source, text, of) in enumerate(shown, 1)
    )


def _table(sources: Sequence[str], written: Sequence[str], references: Sequence[list[str]]) -> str:
    """Tab-separated: a line per source, and a column per reference."""
    most = max(map(len, references))
    head = ["source", "translation", *(f"reference {i}" for i in range(1, most + 1))]
    lines = [
        [source, text, *of, *[""] * (most - len(of))]
        for source, text, of in zip(sources, written, references, strict=True)
    ]
    return "".join("\t".join(map(one_line, line)) + "\n" for line in [head, *lines])
