"""Data command: `fetch` downloads and `prepare` builds the data of tasks, `show` describes it. No
other command downloads anything.

python -m micro_transformer.data prepare                   every task, with the knobs of conf/task
python -m micro_transformer.data prepare task=shakespeare text=clean
python -m micro_transformer.data show task=shakespeare        the data card and a figure of lengths
"""

import os
import sys
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from micro_transformer import disk
from micro_transformer.config import choices
from micro_transformer.config.components import find
from micro_transformer.config.schema import folder_faults
from micro_transformer.console import clean
from micro_transformer.data.corpora.base import Corpus
from micro_transformer.data.corpora.catalog import catalog, corpus
from micro_transformer.data.prepare import fetch, prepare
from micro_transformer.data.prepared import DataDamaged, DataMissing
from micro_transformer.data.sources import fetching

ACTIONS = ("fetch", "prepare", "show")
TEXTS = ("root", "tier", "task")  # values are literal text, not YAML
HELP = ("-h", "--help", "help")
BAD_USE, BAD_DATA = 2, 3


@disk.one_line
def main(words: list[str] | None = None) -> int:
    """Exit code: 0 done, 2 wrong usage, 3 data missing, damaged or not writable."""
    words = sys.argv[1:] if words is None else words
    try:
        if set(HELP) & set(words):
            print(__doc__)
            return 0
        action, asked = _parse(words)
        root = os.path.expanduser(asked.pop("root", "data"))
        if faults := folder_faults("root", root):
            raise ValueError(faults[0])
        tier = asked.pop("tier", None)
        corpora = _corpora(asked)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_USE
    failed = False
    for wanted in corpora:
        try:
            _act(action, wanted, Path(root), tier)
        except (DataMissing, DataDamaged) as error:
            print(f"error: {error}", file=sys.stderr)
            failed = True
        except OSError as error:  # a full disk, a folder that cannot be written
            print(f"error: data: {disk.in_words(error, root)}", file=sys.stderr)
            failed = True
    return BAD_DATA if failed else 0


def _act(action: str, wanted: Corpus, root: Path, tier: str | None) -> None:
    if action == "fetch":
        print(f"{wanted.name}: {fetch(wanted, root, tier)}")
        return
    data = prepare(wanted, root, fetching, tier)
    if action == "prepare":
        print(
            f"{wanted.name}: {data.record['rows']} rows, tier {data.record['tier']}, {data.folder}"
        )
    else:
        from micro_transformer.data import card

        print(card.text(data))
        print(f"figure: {card.figure(data)}")


def _parse(words: list[str]) -> tuple[str, dict[str, Any]]:
    """Parses `prepare task=x knob=value` into the action and its keys with YAML values; raises
    ValueError."""
    action, *rest = words or ["prepare"]
    if action not in ACTIONS:
        raise ValueError(
            f"{clean(action)}: must be one of {', '.join(ACTIONS)}, then task=NAME knob=value ..."
        )
    asked: dict[str, Any] = {}
    for word in rest:
        key, equals, value = word.partition("=")
        if not equals or not key or key.startswith("-"):
            raise ValueError(f"{clean(word)}: must be key=value, as in task=shakespeare")
        asked[key] = value if key in TEXTS else _value(word)
    return action, asked


def _value(word: str) -> Any:
    """The value in key=value, parsed as in Hydra; raises ValueError."""
    try:
        return OmegaConf.from_dotlist([f"value={word.partition('=')[2]}"]).value
    except Exception as error:  # of yaml and of OmegaConf
        raise ValueError(f"{clean(word)}: not a value") from error


def _corpora(asked: dict[str, Any]) -> list[Corpus]:
    """The requested corpora, default all; knobs come from conf/task unless given."""
    name = asked.pop("task", None)
    if name is None and asked:
        raise ValueError(f"{clean(next(iter(asked)))}: needs task=NAME")
    if name is not None and _draws(name):
        print(f"{name}: draws what it needs, there is nothing to prepare")
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
            raise ValueError(f"{clean(key)}: task={name} has the knobs {', '.join(wanted.knobs)}")
    return wanted
