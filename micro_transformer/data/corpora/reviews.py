"""Sentences of film reviews and of Tatoeba, cleaned and split: what the corpora `sst2` and `mlm`
have in common.

Both are made from the same sources, so that they have the same evaluation sentences, which no text
of `mlm` contains, and the same tokenizer, trained on the text of `mlm`.
"""

import re
from dataclasses import dataclass
from itertools import accumulate, combinations

from micro_transformer.data.corpora.base import Rows
from micro_transformer.data.corpora.splitting import cut, shuffled
from micro_transformer.data.text import Report, distinct, fold, same

SEED = 2013
MAX_TOKENS = 1_024  # longer sentences are dropped and counted
VAL_ROWS = 500  # of sst2
MASKED_VAL_ROWS = 1_000  # of mlm, at most a twentieth
# Of SST-2's tokens: clitics and punctuation are separate tokens.
CLITIC = re.compile(r"(n't|'(?:s|re|ve|ll|d|m))\b")
MARK = re.compile(r"(\.\.\.|--|[.,;:!?()\"“”])")

Labelled = tuple[str, int]  # text, 1 good or 0 bad


@dataclass(frozen=True)
class Pool:
    """The texts of a source: sentences, those reserved for test (maybe none), and phrases cut
    from sentences."""

    sentences: list[Labelled]
    test: list[Labelled]
    phrases: list[Labelled]


@dataclass(frozen=True)
class Parts:
    """The texts as the corpora use them; no evaluation sentence is in train or english."""

    train: list[Labelled]  # whole sentences
    val: list[Labelled]
    test: list[Labelled]
    english: list[str]  # written as those of SST-2
    phrases: list[Labelled]  # as they were read, see `with_phrases`


def parts(pool: Pool, pairs: list[tuple[str, str]], report: Report) -> Parts:
    """What was read from an origin, cleaned and split."""
    sentences, test = _unique(pool.sentences, report), _unique(pool.test, report)
    val_rows = VAL_ROWS if test else len(sentences) // 10
    if not test:
        test, sentences = cut_rows(sentences, len(sentences) // 10)
    val, rest = cut_rows(_apart(sentences, test, report), val_rows)
    evaluated = [*val, *test]
    english = [(as_tokens(pair[0]), 0) for pair in pairs]
    english = _without(_unique(english, report), evaluated, report)
    return Parts(
        train=_apart(rest, evaluated, report),
        val=val,
        test=test,
        english=[text for text, _ in english],
        phrases=pool.phrases,
    )


def with_phrases(found: Parts, report: Report) -> list[Labelled]:
    """The training sentences and the phrases that share no run of words with an evaluation text."""
    items = _unique([*found.train, *found.phrases], report)
    return _apart(items, [*found.val, *found.test], report)


def unlabelled(found: Parts, report: Report) -> dict[str, Rows]:
    """The sentences of `mlm`: those that `sst2` trains on, and the English ones; each once."""
    texts = [*(text for text, _ in found.train), *found.english]
    texts = list(distinct(texts, same, report, "sentence"))
    val, train = cut(shuffled(len(texts), SEED), [min(MASKED_VAL_ROWS, len(texts) // 20)])
    return {
        "train": Rows({"text": [texts[i] for i in train]}),
        "val": Rows({"text": [texts[i] for i in val]}),
    }


def as_tokens(text: str) -> str:
    """An English sentence written as in SST-2: lower case, a space around every token."""
    return " ".join(MARK.sub(r" \1 ", CLITIC.sub(r" \1", fold(text).replace("’", "'"))).split())


def cut_rows(items: list[Labelled], first: int) -> tuple[list[Labelled], list[Labelled]]:
    """`first` shuffled items, and the others."""
    head, tail = cut(shuffled(len(items), SEED), [first])
    return [items[i] for i in head], [items[i] for i in tail]


def _unique(items: list[Labelled], report: Report) -> list[Labelled]:
    """Folded texts, each once, without those that have no letter or digit."""
    kept = []
    for number, (text, label) in enumerate(items, 1):
        if same(text):
            kept.append((" ".join(fold(text).split()), label))
        else:
            report.note("no letter or digit, dropped", number)
    return list(distinct(kept, lambda item: same(item[0]), report, "text"))


def _without(items: list[Labelled], evaluated: list[Labelled], report: Report) -> list[Labelled]:
    """Items that contain no evaluation text as a run of words."""
    evaluation = _Known({same(text) for text, _ in evaluated})
    kept = []
    for number, item in enumerate(items, 1):
        if evaluation.runs_in(item[0]):
            report.note("contains an evaluation text, dropped", number)
        else:
            kept.append(item)
    return kept


def _apart(items: list[Labelled], evaluated: list[Labelled], report: Report) -> list[Labelled]:
    """Items that neither contain an evaluation text as a run of words nor are contained in one.

    Single words are allowed: `good` is in everything.
    """
    evaluation = _Known({same(text) for text, _ in evaluated})
    training = _Known({same(text) for text, _ in items})
    parts = set[str]().union(*(training.runs_in(text) for text, _ in evaluated))
    kept = []
    for number, (text, label) in enumerate(items, 1):
        if len(text.split()) > 1 and (same(text) in parts or evaluation.runs_in(text)):
            report.note("shares its words with an evaluation text, dropped", number)
        else:
            kept.append((text, label))
    return kept


class _Known:
    """A set of normalised texts, to be found as runs of words in other texts."""

    def __init__(self, texts: set[str]) -> None:
        self.texts, self.lengths = texts, set(map(len, texts))

    def runs_in(self, text: str) -> set[str]:
        """The texts of the set that are runs of words in a text."""
        words = [same(word) for word in text.split()]
        joined = "".join(words)
        pairs = combinations([0, *accumulate(map(len, words))], 2)
        return self.texts & {joined[a:b] for a, b in pairs if b - a in self.lengths}
