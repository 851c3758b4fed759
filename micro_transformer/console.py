"""Console output, flags and exit codes. Every command's `main` is run by `command`.

Output problems never interrupt the work: a closed pipe (`| head`) or stream is no error, and
characters that the console cannot encode become `?`. Only a failed write, as on a full disk, is
reported at the end, with exit code 3.
"""

import difflib
import errno
import importlib
import io
import logging
import os
import select
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn, TextIO

from micro_transformer.stop import COMMAND
from micro_transformer.wording import _, clean

BAD_USE, BAD_OUTPUT, INTERRUPTED = 2, 3, 130
HELP = ("-h", "--help")
LEFT = (errno.EPIPE, errno.ECONNRESET)


class Patient(io.FileIO):
    """A raw output stream whose writes never fail; `lost` is the first error, if any."""

    lost: OSError | None = None

    def write(self, data: Any) -> int:
        """Writes the data, waiting while the stream would block; discards it on an error."""
        try:
            while (written := super().write(data)) is None:  # would block
                select.select([], [self], [])
            return written
        except OSError as error:
            self.lost = self.lost or error
            return len(data)


def settle() -> None:
    """stdout and stderr of this process, and log handlers on them, no longer raise on write."""
    for name, fd in (("stdout", 1), ("stderr", 2)):
        before = getattr(sys, name)
        if isinstance(_raw(before), Patient):
            continue
        setattr(sys, name, _patient(before, fd))
        for handler in logging.root.handlers:
            if isinstance(handler, logging.StreamHandler) and handler.stream is before:
                handler.setStream(getattr(sys, name))


def _patient(before: TextIO | None, fd: int) -> TextIO:
    return io.TextIOWrapper(
        io.BufferedWriter(Patient(fd, "w", closefd=False)),
        encoding=getattr(before, "encoding", "utf-8"),
        errors="replace",
        line_buffering=fd == 2 or os.isatty(fd),
        write_through=getattr(before, "write_through", False),
    )


def _raw(stream: TextIO | None) -> Any:
    return getattr(getattr(stream, "buffer", None), "raw", None)


def command(main: Callable[[], int | None] | str) -> NoReturn:
    """Runs `main` (a function, or `module:function` to import) and exits the process: with its exit
    code, 128 + number for a signal, or 3 if its output could not be written."""
    try:
        COMMAND.begin()  # before the imports, which take a second: no signal is lost
        settle()
        if isinstance(main, str):
            module, name = main.split(":")
            main = getattr(importlib.import_module(module), name)
        code = _code(main)
    except KeyboardInterrupt:
        code = INTERRUPTED
    raise SystemExit(_ended(code))


def _code(main: Any) -> int:
    try:
        return main() or 0
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
            return 1
        return end.code or 0


def _ended(code: int) -> int:
    """The exit code after flushing stdout; BAD_OUTPUT if a write failed in a successful command."""
    sys.stdout.flush()
    lost = getattr(_raw(sys.stdout), "lost", None)
    if lost is None or lost.errno in LEFT:
        return code
    why = _("{reason}; the output is incomplete, all results were saved", reason=lost.strerror)
    print(_("error: standard output: {why}", why=why), file=sys.stderr)
    return code or BAD_OUTPUT


class BadUse(ValueError):
    """A faulty command line; the text gives the word, the rule and the cure."""


@dataclass(frozen=True)
class Argument:
    """A word of a command line that is not a flag: a path. Parsed under its lower-case name."""

    name: str  # in capitals
    help: str
    count: str = "1"  # "1", "?" (at most one) or "*" (any number)

    def __str__(self) -> str:
        return {"1": "{}", "?": "[{}]", "*": "[{} ...]"}[self.count].format(self.name)


@dataclass(frozen=True)
class Flag:
    """A word that begins with `--`: a switch, or with a value as in `--rows N`."""

    name: str
    help: str
    value: str = ""  # how `--help` shows the value; empty for a switch
    kind: type = str
    default: Any = None
    old: tuple[str, ...] = ()  # earlier spellings, such as `--dir` or `root=`

    def __str__(self) -> str:
        return f"{self.name} {self.value}".strip()

    @property
    def key(self) -> str:
        """The name under which the value is parsed."""
        return self.name.lstrip("-").replace("-", "_")

    def parsed(self, word: str, rest: list[str]) -> Any:
        """The value in `--flag=value`, or the next of the `rest`, which it leaves; raises BadUse if
        it is missing or not of the flag's kind."""
        name, equals, value = word.partition("=")
        if not self.value:
            if equals:
                raise BadUse(_("{word}: takes no value; write {name}", word=clean(word), name=name))
            return True
        if not equals and not rest:
            raise BadUse(_("{name}: needs a value; write {flag}", name=name, flag=self))
        value = value if equals else rest.pop(0)
        try:
            return self.kind(value)
        except ValueError:
            rule = _("must be an integer") if self.kind is int else _("must be a number")
            raise BadUse(f"{name.rstrip('=')}={clean(value)}: {rule}") from None


class Parser:
    """The grammar of every command: `X PATH [--flags] [group=choice ...]`, X a module name.

    Flags may come anywhere. A command with `actions` takes the name of one as its first word;
    `default` is the action of an empty command line. `choices`: the line of `--help` on the words
    group=choice, if the command takes any.
    """

    def __init__(
        self,
        name: str,
        about: str,
        arguments: Sequence[Argument] = (),
        flags: Sequence[Flag] = (),
        *,
        choices: str = "",
        actions: Sequence["Parser"] = (),
        default: str = "",
    ):
        self.name, self.about, self.arguments, self.flags = name, about, arguments, flags
        self.choices, self.default = choices, default
        self.actions = {action.name: action for action in actions}
        self.line = f"python -m micro_transformer.{name}"
        for action in actions:
            action.line, action.flags = f"{self.line} {action.name}", [*action.flags, *flags]

    def parse(self, words: Sequence[str] | None = None) -> Any:
        """A namespace with the value of each argument and flag, the `action` and the `choices`
        (texts `key=value`). `--help` prints and exits with 0, an error prints one line and exits
        with 2."""
        try:
            return self._parsed(list(sys.argv[1:] if words is None else words), {})
        except BadUse as error:
            print(_("error: {fault}", fault=error), file=sys.stderr)
            raise SystemExit(BAD_USE) from None

    def _parsed(self, rest: list[str], given: dict[str, Any]) -> SimpleNamespace:
        """The values of the words in `rest`, added to those `given` before the action."""
        plain: list[str] = []
        chosen: list[str] = []
        while rest:
            word = rest.pop(0)
            if word in HELP or (self.actions and word == "help"):
                print(self.help())
                raise SystemExit(0)
            if (flag := self._flag(word)) is not None:
                given[flag.key] = flag.parsed(word, rest)
            elif self.actions:
                return self._action(word)._parsed(rest, given | {"action": word})
            else:
                (chosen if self.choices and word.find("=") > 0 else plain).append(word)
        if self.actions:
            return self._action(self.default)._parsed([], given | {"action": self.default})
        values = (
            {flag.key: flag.default if flag.value else False for flag in self.flags}
            | self._by_argument(plain)
            | given
        )
        return SimpleNamespace(**values, choices=chosen)

    def _flag(self, word: str) -> Flag | None:
        """The flag in the word; None if there is none; raises BadUse if it is unknown."""
        name, equals, _value = word.partition("=")
        for flag in self.flags:
            if name in (flag.name, *flag.old) or (name + equals in flag.old):
                return flag
        if not name.startswith("-"):
            return None
        known = [HELP[1], *(flag.name for flag in self.flags)]
        hint = near(name, known) or _("; see {line} --help", line=self.line)
        raise BadUse(_("{word}: no such flag{hint}", word=clean(word), hint=hint))

    def _action(self, word: str) -> "Parser":
        if word in self.actions:
            return self.actions[word]
        names, hint = ", ".join(self.actions), near(word, self.actions)
        shown = clean(word) or "ACTION"
        raise BadUse(_("{word}: must be one of {names}{hint}", word=shown, names=names, hint=hint))

    def _by_argument(self, words: list[str]) -> dict[str, Any]:
        """Maps each argument to its path or paths; raises BadUse for too few or too many words."""
        found: dict[str, Any] = {}
        rest = [Path(word) for word in words]
        for argument in self.arguments:
            if argument.count == "*":
                found[argument.name.lower()], rest = rest, []
            elif rest or argument.count == "?":
                found[argument.name.lower()] = rest.pop(0) if rest else None
            else:
                raise BadUse(_("{name}: missing; write {usage}", name=argument.name, usage=self))
        if rest and self.choices:
            raise BadUse(_("{word}: must be key=value, as in task=micro", word=clean(rest[0])))
        if rest:
            raise BadUse(
                _("{word}: one word too many; write {usage}", word=clean(rest[0]), usage=self)
            )
        return found

    def __str__(self) -> str:
        words = ["ACTION"] if self.actions else [str(argument) for argument in self.arguments]
        words += [f"[{flag}]" for flag in self.flags]
        return " ".join([self.line, *words, *["[group=choice ...]"] * bool(self.choices)])

    def help(self) -> str:
        """The text of `--help`: usage, purpose, then a line per action, argument and flag."""
        rows = [
            (" ".join([a.name, *map(str, a.arguments)]), a.about) for a in self.actions.values()
        ]
        rows += [(str(argument), argument.help) for argument in self.arguments]
        rows += [(str(flag), flag.help) for flag in self.flags]
        rows += [("group=choice", self.choices)] * bool(self.choices)
        rows += [(", ".join(HELP), _("print this help"))]
        width = max(len(left) for left, _right in rows)
        lines = (f"  {left:<{width}}  {right.splitlines()[0]}" for left, right in rows)
        return "\n".join([_("usage: {line}", line=self), "", self.about, "", *lines])


def near(word: str, known: Iterable[str]) -> str:
    """`; did you mean ...?` with the nearest known word; empty if none is near."""
    found = difflib.get_close_matches(str(word), list(known), 1, cutoff=0.5)
    return _("; did you mean {word}?", word=found[0]) if found else ""
