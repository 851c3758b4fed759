"""Every command has one grammar: X PATH [--flags] [group=choice ...]."""

import re
from importlib import import_module
from pathlib import Path

import pytest

from micro_transformer.console import Argument, Flag, Parser

COMMANDS = Path(__file__).resolve().parents[2] / "micro_transformer" / "commands"
NAMES = [path.stem for path in sorted(COMMANDS.glob("*.py")) if "Parser(" in path.read_text()]
WORDS = {"store": ["list"], "data": ["prepare"]}  # actions of which the rest is tested
PATH, FLAG = r" \[?[A-Z]+(?: \.\.\.)?\]?", r" \[--[a-z-]+(?: [A-Z]+)?\]"
USAGE = rf"usage: python -m micro_transformer\.[a-z]+( [a-z]+)?({PATH})*({FLAG})*"
FIRST = re.compile(rf"{USAGE}( \[group=choice \.\.\.\])?")


def command(name):
    return import_module(f"micro_transformer.commands.{name}")


def parsers():
    for name in NAMES:
        parser = command(name).parser()
        yield from (parser, *parser.actions.values())


def ended(run, words, capsys):
    """(exit code, stdout, stderr) of a command that ends by itself."""
    with pytest.raises(SystemExit) as end:
        run(words)
    return end.value.code, *capsys.readouterr()


def test_all_commands_are_listed():
    assert NAMES == ["data", "evaluate", "generate", "report", "status", "store", "verify"]


@pytest.mark.parametrize("parser", list(parsers()), ids=lambda p: p.line.removeprefix("python -m "))
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_is_usage_in_the_grammar(parser, flag, capsys):
    code, said, errors = ended(parser.parse, [flag], capsys)
    usage = said.splitlines()[0]
    assert code == 0 and not errors and FIRST.fullmatch(usage), usage
    for known in (*parser.arguments, *parser.flags):
        assert f"\n  {known} " in said and known.help
        assert str(known) in usage


@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_flag_is_one_line_with_the_nearest(name, capsys):
    parser = command(name).parser()
    before = WORDS.get(name, [])
    flags = (parser.actions[before[0]] if before else parser).flags
    for known in ["--help", *(flag.name for flag in flags)]:
        wrong = known + "x"
        code, said, errors = ended(command(name).main, [*before, wrong, "x"], capsys)
        assert (code, said) == (2, "")
        assert errors == f"error: {wrong}: no such flag; did you mean {known}?\n"
    _code, _said, errors = ended(command(name).main, [*before, "--zqqqqqz"], capsys)
    assert errors.startswith("error: --zqqqqqz: no such flag; see python -m micro_transformer.")


def test_one_thing_has_one_flag():
    """The same flag says the same everywhere, and the same folder has the same flag."""
    seen: dict[str, Flag] = {}
    for parser in parsers():
        for flag in parser.flags:
            same = seen.setdefault(flag.name, flag)
            assert (same.value, same.kind) == (flag.value, flag.kind)
    helps = [flag.help for flag in seen.values()]
    assert len(set(helps)) == len(helps)


TOY = Parser(
    "toy",
    "Toy.",
    [Argument("ONE", "first"), Argument("TWO", "second", "?")],
    [Flag("--rows", "how many", "N", int, 3, ("--lines", "rows=")), Flag("--json", "as JSON")],
)
MANY = Parser("many", "Many.", [Argument("ALL", "all", "*")], choices="task=NAME")
BOTH = Parser("both", "Both.", (), [Flag("--at", "place", "DIR")], actions=[MANY], default="many")


@pytest.mark.parametrize(
    "words, rows, two",
    [
        (["a"], 3, None),
        (["a", "--rows", "5", "b"], 5, Path("b")),
        (["--rows=5", "a", "b=c", "--json"], 5, Path("b=c")),
        (["--lines", "-1", "a"], -1, None),
        (["a", "rows=7"], 7, None),
    ],
)
def test_flags_come_anywhere_and_old_spellings_go_on(words, rows, two):
    asked = TOY.parse(words)
    assert (asked.one, asked.two, asked.rows) == (Path("a"), two, rows)
    assert asked.json is ("--json" in words)


def test_an_action_takes_the_flags_of_its_command_and_choices():
    asked = BOTH.parse(["--at", "x", "many", "p", "task=micro", "q", "k=1"])
    assert (asked.action, asked.at) == ("many", "x")
    assert asked.all == [Path("p"), Path("q")] and asked.choices == ["task=micro", "k=1"]
    assert BOTH.parse([]).action == "many" and BOTH.parse(["many", "--at=y"]).at == "y"


@pytest.mark.parametrize(
    "parser, words, said",
    [
        (TOY, [], "ONE: missing; write python -m micro_transformer.toy ONE [TWO] [--rows N]"),
        (TOY, ["a", "b", "c"], "c: one word too many; write python -m micro_transformer.toy ONE"),
        (TOY, ["a", "--rows"], "--rows: needs a value; write --rows N"),
        (TOY, ["a", "--rows", "x"], "--rows=x: must be an integer"),
        (TOY, ["a", "rows=x"], "rows=x: must be an integer"),
        (TOY, ["a", "--json=1"], "--json=1: takes no value; write --json"),
        (TOY, ["a", "--jsn"], "--jsn: no such flag; did you mean --json?"),
        (BOTH, ["mny"], "mny: must be one of many; did you mean many?"),
        (BOTH, ["\x1b[2J"], "?[2J: must be one of many"),
    ],
)  # fmt: skip
def test_an_error_names_word_rule_and_cure(parser, words, said, capsys):
    code, _out, errors = ended(parser.parse, words, capsys)
    assert code == 2 and errors.startswith(f"error: {said}") and errors.count("\n") == 1


@pytest.mark.parametrize(
    "words, said",
    [
        (["prepair"], "prepair: must be one of fetch, prepare, show; did you mean prepare?"),
        (["prepare", "micro"], "micro: must be key=value, as in task=micro"),
        (["prepare", "=1"], "=1: must be key=value"),
        (["prepare", "--root", "x"], "--root: no such flag"),
    ],
)
def test_a_data_command_line_is_checked_first(words, said, capsys):
    code, _out, errors = ended(command("data").main, words, capsys)
    assert code == 2 and errors.startswith(f"error: {said}")


def test_old_spellings_of_the_commands_go_on():
    data, store = command("data").parser(), command("store").parser()
    asked = data.parse(["show", "root=a", "tier=url", "task=micro"])
    assert (asked.data, asked.tier, asked.choices) == ("a", "url", ["task=micro"])
    assert data.parse([]).action == "prepare"
    for words in (["--dir", "a", "list"], ["list", "--dir=a"], ["list", "--store", "a"]):
        assert store.parse(words).store == Path("a")
    old = store.parse(["prune", "ab", "--older-than", "3", "cd", "--yes"])
    assert (old.training, old.older_than, old.yes) == ([Path("ab"), Path("cd")], 3.0, True)
    assert command("evaluate").parser().parse(["ab", "--data", "d"]).data == "d"
