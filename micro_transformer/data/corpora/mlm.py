"""English sentences without labels for a masked language model: those that `sst2` trains on, and
those of Tatoeba."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from micro_transformer.data.corpora import review_sources, reviews
from micro_transformer.data.corpora.base import Corpus, Origin, Rows
from micro_transformer.data.corpora.reviews import Parts
from micro_transformer.data.text import Report, same


@dataclass(frozen=True)
class MaskedText(Corpus):
    """Whole sentences, each once; none contains a validation or test sentence of `sst2`. Those of
    Tatoeba are written as in SST-2: lower case, a space around every token."""

    name: ClassVar[str] = "mlm"
    row: ClassVar[str] = "sentence"
    max_tokens: ClassVar[int | None] = reviews.MAX_TOKENS
    tokenizer: Literal["char", "byte", "bpe_1k", "bpe_4k"] = "bpe_4k"

    def origins(self) -> list[Origin]:
        return review_sources.origins()

    def rows(self, read: Parts, report: Report) -> dict[str, Rows]:
        return reviews.unlabelled(read, report)

    def sentences(self, text: str) -> list[str]:
        """The row itself."""
        return [same(text)]
