"""Tiny stories from our own grammar: always available, with a known entropy that no model can
beat."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from micro_transformer.config.knobs import Count
from micro_transformer.data.corpora.base import Corpus, Document, Origin, Rows
from micro_transformer.data.micro import grammar
from micro_transformer.data.micro.grammar import Story
from micro_transformer.data.sources import Grammar
from micro_transformer.data.text import Report, distinct
from micro_transformer.data.tokenizer import Tokenizer

SEED = 20240607  # of the stories
TRAIN_SHARE = 0.9
LICENCE = "MIT, written by this project"
ABOUT = "SYNTHETIC: tiny stories drawn from our own grammar"
RECURS = "the grammar has few sentences; what differs from story to story is their combination"
BIASES = (
    "Sixteen first names, one plot, a few dozen words: says nothing about natural language beyond "
    "agreement, word order and recall; women and men, good and bad ends are balanced."
)


@dataclass(frozen=True)
class Micro(Corpus):
    """Independent stories; the last tenth is the validation split."""

    name: ClassVar[str] = "micro"
    row: ClassVar[str] = "story"
    language: Literal["en", "es"] = "en"
    stories: Count = 4000
    tokenizer: Literal["char", "byte", "bpe_1k"] = "char"

    def origins(self) -> list[Origin]:
        return [Origin((Grammar(),), self.draw, LICENCE, ABOUT, BIASES)]

    def may_recur(self, tier: str) -> str:
        return stand_in(tier)

    def draw(self, paths: list[Path], report: Report) -> list[Story]:
        """Distinct stories: one drawn twice could be in two splits."""
        stories = (grammar.draw(SEED, i) for i in range(self.stories))
        return list(distinct(stories, lambda s: s.text(self.language), report, "story"))

    def rows(self, read: list[Story], report: Report) -> dict[str, Rows]:
        cut = int(len(read) * TRAIN_SHARE)
        return {"train": self._rows(read[:cut]), "val": self._rows(read[cut:])}

    def facts(self, splits: dict[str, Rows], tokens: Tokenizer) -> dict[str, Any]:
        """Entropy of the grammar, and the lower bound of the validation loss in the units of
        `score`.

        The bound is -log p of the split under the grammar, over the scored tokens: all but the
        first, a line feed, which is certain.
        """
        texts = splits["val"].texts["text"]
        nats = -sum(grammar.log_prob(text, self.language) for text in texts)
        num_bytes = sum(len(text.encode("utf-8")) for text in texts)
        scored = sum(len(tokens.encode(text)) for text in texts) - 1
        return {
            "entropy_nats_per_story": grammar.entropy(),
            "entropy_nats_per_character": grammar.entropy_rate(self.language),
            "val_floor_loss": nats / scored,
            "val_floor_bits_per_byte": nats / math.log(2) / (num_bytes - 1),
        }

    def _rows(self, stories: list[Story]) -> Rows:
        return Rows(
            {"text": [story.text(self.language) for story in stories]},
            numbers={"sentiment": [story.sentiment for story in stories]},
        )


def read_as(language: str, groups: int, stories: int) -> list[Document]:
    """Documents of stories in place of a corpus that is not available: `groups` documents of
    `stories` each."""
    return [
        Document(f"stories-{g}", "".join(_text(SEED + 1 + g, i, language) for i in range(stories)))
        for g in range(groups)
    ]


def stand_in(tier: str) -> str:
    """Why sentences of our stories occur in two splits; "" for other tiers."""
    return RECURS if tier == Grammar.tier else ""


def one_a_line(stories: str) -> list[str]:
    """The stories of a text, one per line."""
    texts = stories.split(grammar.STORY_START)
    return [" ".join(text.split()) + "\n" for text in texts if text]


def _text(seed: int, index: int, language: str) -> str:
    return grammar.draw(seed, index).text(language)
