"""Data command: `fetch` downloads and `prepare` builds the data of tasks, `show` describes it. No
other command downloads anything.

python -m micro_transformer.data prepare                   every task, with the knobs of conf/task
python -m micro_transformer.data prepare task=shakespeare text=clean
python -m micro_transformer.data show task=shakespeare    the data card and a figure of lengths
"""

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from micro_transformer import disk
from micro_transformer.commands.places import data_flag
from micro_transformer.config import choices
from micro_transformer.config.components import find
from micro_transformer.config.schema import folder_faults
from micro_transformer.console import Flag, Parser, near
from micro_transformer.data.build_dataset import fetch, prepare
from micro_transformer.data.corpora.base import Corpus
from micro_transformer.data.corpora.catalog import catalog, corpus
from micro_transformer.data.prepared_dataset import DataDamaged, DataMissing
from micro_transformer.data.sources import fetching
from micro_transformer.wording import _, clean, plural

TEXTS = ("task",)  # keys whose value is literal text, not YAML
BAD_USE, BAD_DATA = 2, 3


def parser() -> Parser:
    """The command's grammar."""
    about = _("Fetches, prepares and shows the data of tasks. No other command downloads anything.")
    choices = _("task=NAME and its knobs, such as text=clean; default: every task of conf/task")
    tier = Flag("--tier", _("the source; default: the best available"), "NAME", old=("tier=",))
    data = replace(data_flag(), old=("root=",))
    actions = [
        Parser("fetch", _("Downloads the raw files."), choices=choices),
        Parser("prepare", _("Downloads what is missing, and builds the data."), choices=choices),
        Parser("show", _("Prints the data card and draws the lengths."), choices=choices),
    ]
    return Parser("data", about, (), [data, tier], actions=actions, default="prepare")


@disk.one_line
def main(words: list[str] | None = None) -> int:
    """Exit code: 0 done, 2 wrong usage, 3 data missing, damaged or not writable."""
    asked = parser().parse(words)
    try:
        root = os.path.expanduser(asked.data)
        if faults := folder_faults("data", root):
            raise ValueError(faults[0])
        corpora = _corpora(dict(map(_parsed, asked.choices)))
    except ValueError as error:
        print(_("error: {fault}", fault=error), file=sys.stderr)
        return BAD_USE
    failed = False
    for wanted in corpora:
        try:
            _act(asked.action, wanted, Path(root), asked.tier)
        except (DataMissing, DataDamaged) as error:
            print(_("error: {fault}", fault=error), file=sys.stderr)
            failed = True
        except OSError as error:  # a full disk, a folder that cannot be written
            fault = f"data: {disk.in_words(error, Path(root))}"
            print(_("error: {fault}", fault=fault), file=sys.stderr)
            failed = True
    return BAD_DATA if failed else 0


def _act(action: str, wanted: Corpus, root: Path, tier: str | None) -> None:
    if action == "fetch":
        print(f"{wanted.name}: {fetch(wanted, root, tier)}")
        return
    data = prepare(wanted, root, fetching, tier)
    if action == "prepare":
        rows = plural(data.record["rows"], "{n} row", "{n} rows")
        tier = _("tier {name}", name=data.record["tier"])
        print(f"{wanted.name}: {rows}, {tier}, {data.folder}")
    else:
        from micro_transformer.data import card

        print(card.text(data))
        print(_("figure: {path}", path=card.figure(data)))


def _parsed(word: str) -> tuple[str, Any]:
    """The key and the value of key=value, parsed as in Hydra; raises ValueError."""
    key, _equals, value = word.partition("=")
    if key in TEXTS:
        return key, value
    try:
        return key, OmegaConf.from_dotlist([f"value={value}"]).value
    except Exception as error:  # of yaml and of OmegaConf
        raise ValueError(_("{word}: not a value", word=clean(word))) from error


def _corpora(asked: dict[str, Any]) -> list[Corpus]:
    """The requested corpora, default all; knobs come from conf/task unless given."""
    name = asked.pop("task", None)
    if name is None and asked:
        raise ValueError(_("{key}: needs task=NAME", key=clean(next(iter(asked)))))
    if name is not None and _draws(name):
        print(_("{task}: generates its data, nothing to prepare", task=name))
        return []
    return [_corpus(n, asked) for n in (catalog() if name is None else [name])]


def _draws(name: str) -> bool:
    """Whether the task generates its data, so has no corpus; False for unknown tasks."""
    kind = _defaults(name).get("kind")
    return kind is not None and find("task", kind).facts["corpus"] is None


def _defaults(name: str) -> dict[str, Any]:
    return choices.read_choice("task", name) if name in choices.choices_of("task") else {}


def _corpus(name: str, asked: dict[str, Any]) -> Corpus:
    wanted = corpus(name, {**_defaults(name), **asked})
    for key in asked:
        if key not in wanted.knobs:
            rule = _("task={name} has the knobs {knobs}", name=name, knobs=", ".join(wanted.knobs))
            raise ValueError(f"{clean(key)}: {rule}{near(key, wanted.knobs)}")
    return wanted
