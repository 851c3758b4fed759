"""English-Spanish sentence pairs (Tatoeba, in the export of manythings.org of 2018)."""

import json
import re
import zipfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from micro_transformer.config.knobs import Count, Size
from micro_transformer.data.archives import naming, zip_member
from micro_transformer.data.corpora import micro
from micro_transformer.data.corpora.base import Corpus, Origin, Rows
from micro_transformer.data.corpora.spanish import BIBLE, BIBLE_LICENCE, verses
from micro_transformer.data.corpora.splitting import components, shuffled
from micro_transformer.data.micro import grammar
from micro_transformer.data.sources import Download, Folder, Grammar, Package, read_bytes
from micro_transformer.data.text import Report, distinct, read, same
from micro_transformer.data.tokenizer import Tokenizer

SEED = 20180513  # of the shuffle before slicing
HELD_OUT = 2_000  # pairs, at least, in val and in test each, of a set of all pairs
MOST_HELD_OUT = 1_000  # of a smaller set: a tenth of it, at most this
FILE = Folder(
    "tatoeba_en_es/pairs.tsv",
    7_708_370,
    "cd07dd2d9cd6566d7d30e469948f06f649e37676fedf795311bed3da598e71a5",
)
MEMBER = (
    "spa-eng/spa.txt",
    8_042_772,
    "6ec60e212f812ee3430f7568ea6f33b6fb080e32193c5952e8da0ee8ba45574c",
)
TENSORFLOW = Download(
    "https://storage.googleapis.com/download.tensorflow.org/data/spa-eng.zip",
    "spa-eng.zip",
    4_000_000,
    None,
    member=MEMBER,
)
OPUS = Download(
    "https://object.pouta.csc.fi/OPUS-Tatoeba/v2023-04-12/moses/en-es.txt.zip",
    "opus-tatoeba-en-es.zip",
    16_000_000,
    "a26e7675cae64c93ce45e6cae48f38424bf26e0923cec9d7881b1fa2bb636227",
)
OPUS_BYTES = 64_000_000  # of a member, at most
HOME = Package(
    "homeassistant",
    "2026.11.0",
    "homeassistant-2026.11.0-py3-none-any.whl",
    67_607_712,
    "7ca5fbde9dea879ac7723949fc84347aac5182e6309c357b2e4973fd391b00f7",
)
LICENCE = "CC BY 2.0 FR; www.manythings.org/anki and tatoeba.org"
BIASES = (
    "Short sentences of learners and teachers (mean 6 words), many about Tom and Mary; Spanish "
    "of Spain and America mixed, formal and familiar; far easier than running text."
)
Pair = tuple[str, str]  # English, Spanish; in `rows` source, target


@dataclass(frozen=True)
class Tatoeba(Corpus):
    """Sentences and their translations. No sentence of either language is in two splits, which are
    the same pairs in both directions. One tokenizer for both languages."""

    name: ClassVar[str] = "tatoeba"
    row: ClassVar[str] = "pair (train), source sentence with all its references (val, test)"
    pairs: Size = 20_000  # of all splits together; 0: all
    direction: Literal["en-es", "es-en"] = "en-es"
    # of a source or a target; longer pairs are dropped and counted
    max_tokens: Count = 128  # type: ignore[misc]
    tokenizer: Literal["char", "byte", "bpe_4k", "bpe_8k"] = "bpe_4k"

    def origins(self) -> list[Origin]:
        pairs, home = (
            "English-Spanish sentences of Tatoeba",
            "User-interface texts of Home Assistant",
        )
        screen = "Words of menus and errors; many templates, so figures are high and say little."
        bible = "Verses of the World English Bible and the Reina-Valera of 1909"
        old = "Biblical; the Spanish is of 1909, the English of 2000."
        return [
            Origin((FILE,), read_tsv, LICENCE, pairs, BIASES),
            Origin((TENSORFLOW,), read_export, LICENCE, pairs, BIASES),
            Origin((OPUS,), read_opus, "CC BY 2.0 FR; OPUS, Tatoeba", pairs, BIASES),
            Origin((HOME,), read_home_assistant, "Apache-2.0", home, screen),
            Origin((BIBLE,), read_verses, BIBLE_LICENCE, bible, old),
            Origin((Grammar(),), read_grammar, micro.LICENCE, micro.ABOUT, micro.BIASES),
        ]

    def rows(self, read: list[Pair], report: Report) -> dict[str, Rows]:
        """Connected components, shuffled, assigned to test, val and train until each is full.

        Two pairs are connected if they share a sentence of either language, compared by letters
        and digits.
        """
        pairs = [pair if self.direction == "en-es" else pair[::-1] for pair in _whole(read, report)]
        pairs = list(distinct(pairs, lambda p: f"{same(p[0])}\t{same(p[1])}", report, "pair"))
        numbers = components((same(source), same(target)) for source, target in pairs)
        members: dict[int, list[Pair]] = {}
        for number, pair in zip(numbers, pairs, strict=True):
            members.setdefault(number, []).append(pair)
        full = self._sizes(len(pairs))
        taken: dict[str, list[Pair]] = {split: [] for split in full}
        for number in shuffled(len(members), SEED):
            open_split = next((s for s in full if len(taken[s]) < full[s]), None)
            if open_split is None:
                break
            taken[open_split] += members[number]
        return {"train": _pair_rows(taken["train"]), "val": _reference_rows(taken["val"])} | {
            "test": _reference_rows(taken["test"])
        }

    def facts(self, splits: dict[str, Rows], tokens: Tokenizer) -> dict[str, Any]:
        """The direction, and the number of references per source."""
        counts = Counter(len(r) for r in splits["test"].entries["references"])
        return {
            "direction": self.direction,
            "test_sources_by_number_of_references": dict(sorted(counts.items())),
        }

    def _sizes(self, available: int) -> dict[str, int]:
        """Number of pairs from which on each split is full, in order of filling."""
        wanted = min(self.pairs or available, available)
        most = HELD_OUT if not self.pairs else MOST_HELD_OUT
        held_out = max(1, min(most, wanted // 10))
        return {"test": held_out, "val": held_out, "train": wanted - 2 * held_out}


def _whole(pairs: list[Pair], report: Report) -> list[Pair]:
    """Pairs stripped of surrounding space, without empty sides."""
    kept = []
    for number, (en, es) in enumerate(pairs, 1):
        pair = (" ".join(en.split()), " ".join(es.split()))
        if same(pair[0]) and same(pair[1]):
            kept.append(pair)
        else:
            report.note("a side without words, dropped", number)
    return kept


def _pair_rows(pairs: list[Pair]) -> Rows:
    order = shuffled(len(pairs), SEED)
    return Rows({"source": [pairs[i][0] for i in order], "target": [pairs[i][1] for i in order]})


def _reference_rows(pairs: list[Pair]) -> Rows:
    """One row per source; its target is the first reference. Case is kept."""
    references: dict[str, list[str]] = {}
    shown: dict[str, str] = {}
    for source, target in pairs:
        shown.setdefault(same(source), source)
        references.setdefault(same(source), []).append(target)
    keys = list(references)
    return Rows(
        {"source": [shown[k] for k in keys], "target": [references[k][0] for k in keys]},
        entries={"references": [references[k] for k in keys]},
    )


def parse_tsv(text: str, report: Report) -> list[Pair]:
    """The first two columns of every line; lines with fewer are counted and dropped."""
    pairs = []
    for number, line in enumerate(text.split("\n"), 1):
        columns = line.split("\t")
        if len(columns) >= 2:
            pairs.append((columns[0], columns[1]))
        elif line:
            report.note("fewer than two columns, dropped", number)
    return pairs


def read_tsv(paths: list[Path], report: Report) -> list[Pair]:
    return parse_tsv(read(read_bytes(paths[0]), report), report)


def read_export(paths: list[Path], report: Report) -> list[Pair]:
    return parse_tsv(read(zip_member(paths[0], *MEMBER), report), report)


def read_opus(paths: list[Path], report: Report) -> list[Pair]:
    """Pairs of two files aligned by line."""
    sides = (zip_member(paths[0], f"Tatoeba.en-es.{code}", OPUS_BYTES) for code in ("en", "es"))
    english, spanish = (read(side, report).rstrip("\n").split("\n") for side in sides)
    return list(zip(english, spanish, strict=True))


def read_home_assistant(paths: list[Path], report: Report) -> list[Pair]:
    """Texts with the same key in both languages, of at least two words, without markup or
    placeholders."""
    files: dict[str, dict[str, str]] = {}
    with naming(paths[0]), zipfile.ZipFile(paths[0]) as wheel:
        for name in sorted(wheel.namelist()):
            if match := re.fullmatch(
                r"homeassistant/components/(\w+)/translations/(en|es)\.json", name
            ):
                files.setdefault(match[1], {})[match[2]] = wheel.read(name).decode("utf-8")
    pairs = []
    for both in files.values():
        english, spanish = (
            dict(_leaves(json.loads(both.get(code, "{}")))) for code in ("en", "es")
        )
        pairs += [(english[key], spanish[key]) for key in english if key in spanish]
    plain = [p for p in pairs if p[0] != p[1] and len(p[0].split()) >= 2 and not _marked(p)]
    report.note("with markup, placeholders or one word, dropped", 1, len(pairs) - len(plain))
    return plain


def _leaves(node: Any, path: str = "") -> list[tuple[str, str]]:
    if isinstance(node, dict):
        return [leaf for key, value in node.items() for leaf in _leaves(value, f"{path}.{key}")]
    return [(path, node)] if isinstance(node, str) else []


def _marked(pair: Pair) -> bool:
    return any(re.search(r"[{}\[\]<>|`\n]|https?:|\*\*|%", text) for text in pair)


def read_verses(paths: list[Path], report: Report) -> list[Pair]:
    """Pairs of verses of the World English Bible and the Reina-Valera."""
    sides: dict[tuple[int, int], dict[str, str]] = {}
    for book, number, version, text in verses(paths[0], "4v"):
        sides.setdefault((book, number), {})[version] = text
    return [(both["4"], both["v"]) for both in sides.values() if len(both) == 2]


def read_grammar(paths: list[Path], report: Report) -> list[Pair]:
    """Pairs of sentences of our own stories."""
    pairs: dict[Pair, None] = {}
    for index in range(3_000):
        story = grammar.draw(micro.SEED, index)
        pairs.update(dict.fromkeys(zip(story.sentences("en"), story.sentences("es"), strict=True)))
    return list(pairs)
