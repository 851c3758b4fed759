"""Where labelled sentences of film reviews come from (SST-2: Socher et al., 2013, over snippets of
Pang and Lee), each source together with the English sentences of Tatoeba.
"""

from collections.abc import Iterator
from itertools import product
from pathlib import Path

from micro_transformer.data.archives import tar_member, zip_member
from micro_transformer.data.corpora import micro
from micro_transformer.data.corpora.base import Origin
from micro_transformer.data.corpora.reviews import Labelled, Parts, Pool, parts
from micro_transformer.data.corpora.tatoeba import Tatoeba
from micro_transformer.data.micro import grammar
from micro_transformer.data.sources import Download, Folder, Grammar, Package, read_bytes
from micro_transformer.data.text import Report, read

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
SAME_SNIPPETS = (
    "Rotten Tomatoes snippets with human ratings (vaderSentiment). 732 of them are in the "
    "validation split of GLUE: never compare with figures on SST-2"
)
BIASES = (
    "English film reviews of about 2000, mostly of American films; lower-cased and tokenised; "
    "phrases are judged out of context, by raters in the USA."
)


def origins() -> list[Origin]:
    """Origins of reviews and of Tatoeba together, best first; tiers are not mixed. They read
    Parts."""
    reviews = [
        Origin(FILES, read_folder, LICENCE, "SST-2, sentences and phrases", BIASES),
        Origin((GLUE,), read_glue, LICENCE, "SST-2 as in GLUE", BIASES),
        Origin((VADER,), read_vader, "Package MIT; snippets of critics", SAME_SNIPPETS, BIASES),
        Origin((Grammar(),), read_grammar, micro.LICENCE, micro.ABOUT, micro.BIASES),
    ]
    pairs = product(reviews, Tatoeba().origins())
    return [_together(a, b) for a, b in pairs if _kind(a) == _kind(b)]


def _kind(origin: Origin) -> str:
    return origin.tier.split(":")[0]


def _together(one: Origin, other: Origin) -> Origin:
    """One origin of both."""
    num = len(one.sources)

    def read_both(paths: list[Path], report: Report) -> Parts:
        return parts(one.read(paths[:num], report), other.read(paths[num:], report), report)

    return Origin(
        one.sources + other.sources,
        read_both,
        "; ".join(dict.fromkeys((one.licence, other.licence))),
        "; ".join(dict.fromkeys((one.about, other.about))),
        " ".join(dict.fromkeys((one.biases, other.biases))),
    )


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
