"""Sentiment of sentences from film reviews (SST-2: Socher et al., 2013)."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from micro_transformer.data.corpora import review_sources, reviews
from micro_transformer.data.corpora.base import Corpus, Origin, Rows
from micro_transformer.data.corpora.reviews import Labelled, Parts
from micro_transformer.data.prepared_dataset import DataMissing
from micro_transformer.data.text import Report, same
from micro_transformer.data.tokenizer import Tokenizer
from micro_transformer.wording import _

SMALL = 2_000


@dataclass(frozen=True)
class SST2(Corpus):
    """2k: whole sentences. all: also phrases that share no run of words with an evaluation text.
    The tokenizer is that of the corpus `mlm`."""

    name: ClassVar[str] = "sst2"
    row: ClassVar[str] = "sentence or phrase"
    max_tokens: ClassVar[int | None] = reviews.MAX_TOKENS
    tokenized_as: ClassVar[str | None] = "mlm"
    size: Literal["2k", "all"] = "2k"
    tokenizer: Literal["char", "byte", "bpe_1k", "bpe_4k"] = "bpe_4k"

    def origins(self) -> list[Origin]:
        return review_sources.origins()

    def rows(self, read: Parts, report: Report) -> dict[str, Rows]:
        train = read.train[:SMALL]
        if self.size == "all":
            train = reviews.with_phrases(read, report)
        splits = {"train": train, "val": read.val, "test": read.test}
        return {split: _rows(items) for split, items in splits.items()}

    def vocabulary_texts(self, read: Parts, splits: dict[str, Rows]) -> Iterator[str]:
        uncounted = Report()  # the manifest of `mlm` has it
        return reviews.unlabelled(read, uncounted)["train"].all_text()

    def sentences(self, text: str) -> list[str]:
        """The row itself: sentences are cut already, and a full stop may be that of `mr .`"""
        return [same(text)]

    def facts(self, splits: dict[str, Rows], tokens: Tokenizer) -> dict[str, Any]:
        """Share of good rows in each split; a constant answer has an F1-macro of at most 1/2.
        Raises DataMissing for a split of one class."""
        shares = {}
        for split, rows in splits.items():
            counts = Counter(rows.numbers["label"])
            if len(counts) < 2:
                raise DataMissing(
                    _(
                        "data: split {name} of task={task} has rows of one class only; use a "
                        "source with both",
                        name=split,
                        task=self.name,
                    )
                )
            shares[f"{split}_good_share"] = round(counts[1] / len(rows), 4)
        return shares


def _rows(items: list[Labelled]) -> Rows:
    return Rows({"text": [t for t, _ in items]}, numbers={"label": [label for _, label in items]})
