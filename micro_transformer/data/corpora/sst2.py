"""Sentiment of sentences from film reviews (SST-2: Socher et al., 2013, over snippets of Pang and
Lee).
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate, combinations
from pathlib import Path
from typing import Any, ClassVar, Literal

from micro_transformer.data.archives import tar_member, zip_member
from micro_transformer.data.corpora import micro
from micro_transformer.data.corpora.base import Corpus, Origin, Rows
from micro_transformer.data.corpora.splitting import cut, shuffled
from micro_transformer.data.micro import grammar
from micro_transformer.data.sources import Download, Folder, Grammar, Package, read_bytes
from micro_transformer.data.text import Report, distinct, fold, read, same
from micro_transformer.data.tokenizer import Tokenizer

SEED = 2013
MAX_TOKENS = 1_024
VAL_ROWS = 500
SMALL = 2_000
FILES = (
    Folder(
        "sst2/sentences_train.tsv",
        628_819,
        "21bf1e560f78f7aecaac352d3dfd9f16fbeeced960184f8d712c16adfc523a07",
    ),
    Folder(
        "sst2/sentences_dev.tsv",
        105_686,
        "d51814a1f758862b5d718575253abdd850471efaac777a1f692bd0a6e87ecf21",
    ),
    Folder(
        "sst2/train_phrases.tsv",
        3_422_882,
        "920e317b2c52e12cd22db1da2c6708312bd7dc4f3712b9bbf1b50ee6c2c792ba",
    ),
)
GLUE = Download(
    "https://dl.fbaipublicfiles.com/glue/data/SST-2.zip",
    "SST-2.zip",
    7_439_277,
    "d67e16fb55739c1b32cdce9877596db1c127dc322d93c082281f64057c16deaa",
)
MEMBER_BYTES = 8_000_000  # of a member, at most
VADER = Package(
    "vaderSentiment",
    "3.3.2",
    "vaderSentiment-3.3.2.tar.gz",
    2_466_783,
    "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
    options=("--no-binary", ":all:"),
)
INNER = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
RATINGS = "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt"
RATINGS_SHA256 = "c8293b0d942e90e223ea2c0955d969040d1a1be514a978b9af0698940bd13350"
CLEAR = 0.5  # mean rating of -4 .. 4 from which a snippet counts as good or bad
LICENCE = "No clear licence: research use, do not redistribute"
BIASES = (
    "English film reviews of about 2000, mostly of American films; lower-cased and tokenised; "
    "phrases are judged out of context, by raters in the USA."
)
Labelled = tuple[str, int]  # text, 1 good or 0 bad


@dataclass(frozen=True)
class Pool:
    """The texts of a source: sentences, those reserved for test (maybe none), and phrases cut
    from sentences."""

    sentences: list[Labelled]
    test: list[Labelled]
    phrases: list[Labelled]


@dataclass(frozen=True)
class SST2(Corpus):
    """2k: whole sentences. all: also phrases that share no run of words with an evaluation text."""

    name: ClassVar[str] = "sst2"
    row: ClassVar[str] = "sentence or phrase"
    max_tokens: ClassVar[int | None] = MAX_TOKENS
    size: Literal["2k", "all"] = "2k"
    tokenizer: Literal["char", "byte", "bpe_1k", "bpe_4k"] = "bpe_1k"

    def origins(self) -> list[Origin]:
        same_snippets = (
            "Rotten Tomatoes snippets with human ratings (vaderSentiment). 732 of them are in the "
            "validation split of GLUE: never compare with figures on SST-2"
        )
        return [
            Origin(FILES, read_folder, LICENCE, "SST-2, sentences and phrases", BIASES),
            Origin((GLUE,), read_glue, LICENCE, "SST-2 as in GLUE", BIASES),
            Origin((VADER,), read_vader, "Package MIT; snippets of critics", same_snippets, BIASES),
            Origin((Grammar(),), read_grammar, micro.LICENCE, micro.ABOUT, micro.BIASES),
        ]

    def rows(self, read: Pool, report: Report) -> dict[str, Rows]:
        sentences, test = _unique(read.sentences, report), _unique(read.test, report)
        val_rows = VAL_ROWS if test else len(sentences) // 10
        if not test:
            test, sentences = cut_rows(sentences, len(sentences) // 10)
        val, rest = cut_rows(_apart(sentences, test, report), val_rows)
        candidates = rest if self.size == "2k" else _unique([*rest, *read.phrases], report)
        train = _apart(candidates, [*val, *test], report)
        if self.size == "2k":
            train = train[:SMALL]
        splits = {"train": train, "val": val, "test": test}
        return {split: _rows(items) for split, items in splits.items()}

    def sentences(self, text: str) -> list[str]:
        """The row itself: sentences are cut already, and a full stop may be that of `mr .`"""
        return [same(text)]

    def facts(self, splits: dict[str, Rows], tokens: Tokenizer) -> dict[str, Any]:
        """Share of good rows in each split; a constant answer has an F1-macro of at most 1/2."""
        shares = {}
        for split, rows in splits.items():
            counts = Counter(rows.numbers["label"])
            shares[f"{split}_good_share"] = round(counts[1] / len(rows), 4)
        return shares


def cut_rows(items: list[Labelled], first: int) -> tuple[list[Labelled], list[Labelled]]:
    """`first` shuffled items, and the others."""
    head, tail = cut(shuffled(len(items), SEED), [first])
    return [items[i] for i in head], [items[i] for i in tail]


def _unique(items: list[Labelled], report: Report) -> list[Labelled]:
    """Folded texts, each once."""
    folded = ((" ".join(fold(text).split()), label) for text, label in items)
    return list(distinct([i for i in folded if same(i[0])], lambda i: same(i[0]), report, "text"))


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


def _rows(items: list[Labelled]) -> Rows:
    return Rows({"text": [t for t, _ in items]}, numbers={"label": [label for _, label in items]})


def parse_tsv(text: str, report: Report) -> Iterator[Labelled]:
    """Rows of `sentence TAB label` below a header; other lines are counted and dropped."""
    for number, line in enumerate(text.rstrip("\n").split("\n")[1:], 2):
        sentence, _, label = line.rpartition("\t")
        if label in ("0", "1") and sentence.strip():
            yield sentence.strip(), int(label)
        else:
            report.note("no sentence or label, dropped", number)


def read_folder(paths: list[Path], report: Report) -> Pool:
    train, dev, phrases = (list(parse_tsv(read(read_bytes(p), report), report)) for p in paths)
    return Pool(train, dev, phrases)


def read_glue(paths: list[Path], report: Report) -> Pool:
    """GLUE, without test labels: its dev split is our test; whole sentences are the longest rows
    of train."""
    train, dev = (
        list(
            parse_tsv(read(zip_member(paths[0], f"SST-2/{name}.tsv", MEMBER_BYTES), report), report)
        )
        for name in ("train", "dev")
    )
    return Pool(_maximal(train), dev, train)


def _maximal(items: list[Labelled]) -> list[Labelled]:
    """Rows of at least four words that are part of no longer row."""
    longest_first = sorted(items, key=lambda item: -len(item[0].split()))
    covered: set[str] = set()
    found = []
    for text, label in longest_first:
        words = text.split()
        if len(words) < 4:
            break
        if " ".join(words) not in covered:
            found.append((text, label))
            covered.update(
                " ".join(words[a:b])
                for a in range(len(words))
                for b in range(a + 4, len(words) + 1)
            )
    return found


def read_vader(paths: list[Path], report: Report) -> Pool:
    """Snippets whose mean rating is clearly good or bad, from a tar within a tar."""
    inner = tar_member(paths[0], INNER, MEMBER_BYTES)
    text = read(tar_member(inner, RATINGS, MEMBER_BYTES, RATINGS_SHA256), report)
    found = []
    for number, line in enumerate(text.split("\n"), 1):
        columns = line.split("\t")
        if len(columns) == 3 and abs(float(columns[1])) >= CLEAR:
            found.append((columns[2], int(float(columns[1]) > 0)))
        elif line:
            report.note("rating not clear, dropped", number)
    return Pool(found, [], [])


def read_grammar(paths: list[Path], report: Report) -> Pool:
    """Our own stories without their question; the label is how they end."""
    drawn = [grammar.draw(micro.SEED, index) for index in range(5_000)]
    return Pool([(" ".join(s.sentences("en")[:-2]), s.sentiment) for s in drawn], [], [])
