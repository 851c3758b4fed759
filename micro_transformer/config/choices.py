"""Reads the files of conf/: each folder is a group, each file a choice, as Hydra would read it.

Files are parsed by OmegaConf, as in Hydra. A file may start from another choice of its group and
state what differs (`defaults: [quick]`). A file with another kind of defaults list or a package
directive is composed by Hydra; interpolations are resolved within a configuration.
"""

import copy
import re
from contextlib import nullcontext
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from micro_transformer.wording import _

CONF = Path(__file__).resolve().parents[2] / "conf"
REFERENCE = re.compile(r"\$\{(?!oc\.)")  # to another key; oc.* resolvers read the environment
NAME = re.compile(r"(?!_self_$)\w+")  # a list with _self_ is left to Hydra
PACKAGE = re.compile(r"^\s*#\s*@package", re.MULTILINE)


class Unreadable(ValueError):
    """A file of conf/ cannot be read; the text names it and says why."""


def groups() -> list[str]:
    """Every configuration group."""
    return sorted(path.name for path in CONF.iterdir() if path.is_dir())


def choices_of(group: str) -> list[str]:
    """The choices of a configuration group: the files in its folder."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def about(group: str, choice: str) -> str:
    """What a choice is: the first comment of its file; empty if it has none."""
    lines = (CONF / group / f"{choice}.yaml").read_text(encoding="utf-8").splitlines()
    said = [line[1:].strip() for line in lines if line.startswith("#")]
    return next((line for line in said if not line.startswith("@")), "")


def is_whole(group: str, choice: str) -> bool:
    """Whether the choice's content depends on files of its group alone: no interpolation of other
    keys, no foreign defaults list, no package directive."""
    text = (CONF / group / f"{choice}.yaml").read_text(encoding="utf-8")
    is_local = _parents(text) is not None
    return is_local and not REFERENCE.search(str(_content(CONF, group, choice)))


def read_choice(group: str, choice: str, config: dict[str, Any] | None = None) -> dict[str, Any]:
    """The content of conf/<group>/<choice>.yaml, with interpolations resolved in `config`; raises
    Unreadable."""
    try:
        content = copy.deepcopy(_content(CONF, group, choice))
        if "${" in str(content):
            whole: Any = OmegaConf.create({**(config or {}), group: content})
            content = OmegaConf.to_container(whole, resolve=True)[group]  # type: ignore
    except Exception as error:  # whatever the readers raise
        raise Unreadable(f"{group}={choice}: {told(error)}") from error
    return content


@cache
def _content(conf: Path, group: str, choice: str) -> Any:
    """The content of a file merged into that of its parents, interpolations unresolved."""
    text = (conf / group / f"{choice}.yaml").read_text(encoding="utf-8")
    parents = _parents(text)
    if parents is None:
        return _composed(conf, group, choice)
    own: Any = OmegaConf.load(conf / group / f"{choice}.yaml")
    if not parents:
        return OmegaConf.to_container(own)
    del own["defaults"]
    return OmegaConf.to_container(
        OmegaConf.merge(*(_content(conf, group, name) for name in parents), own)
    )


def _parents(text: str) -> list[str] | None:
    """Choices of the same group that the file starts from; None if only Hydra can compose it."""
    own: Any = OmegaConf.create(text)
    listed = list(own.get("defaults", ())) if isinstance(own, DictConfig) else []
    is_plain = all(isinstance(name, str) and NAME.fullmatch(name) for name in listed)
    return None if PACKAGE.search(text) or not is_plain else listed


def _composed(conf: Path, group: str, choice: str) -> Any:
    from hydra import compose, initialize_config_dir  # 0.2 s, for a rare file
    from hydra.core.global_hydra import GlobalHydra

    is_open = GlobalHydra.instance().is_initialized()
    with nullcontext() if is_open else initialize_config_dir(str(conf), version_base="1.3"):
        return OmegaConf.to_container(compose(f"{group}/{choice}")[group])


def told(error: BaseException) -> str:
    """An error of Hydra, OmegaConf or yaml in one line, with the file and line if known."""
    mark = getattr(error, "problem_mark", None)
    if mark is not None:
        return f"{mark.name}, line {mark.line + 1}: {getattr(error, 'problem', None)}"
    if isinstance(error, UnicodeDecodeError):
        return _("{file}: not UTF-8; save it as UTF-8 text", file=_undecodable())
    text = " ".join(str(error).split()) or type(error).__name__
    if error.__cause__ is not None and text.startswith("Error merging override"):
        text = f"{text.partition('override ')[2]}: {' '.join(str(error.__cause__).split())}"
    return text if len(text) <= 240 else text[:237] + "..."


def _undecodable() -> str:
    """The first yaml file that is not UTF-8; the decoding error does not name it."""
    for path in sorted(CONF.rglob("*.yaml")):
        try:
            path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            return str(path)
    return "a file"
