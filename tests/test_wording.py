"""All text for people can be translated."""

import ast
import gettext
import html
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from micro_transformer import wording
from micro_transformer.report.write import write_report
from micro_transformer.wording import _, plural

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "micro_transformer"
FILES = sorted(PACKAGE.rglob("*.py"))
LOGS = {"debug", "info", "warning", "error", "critical", "exception"}
SHOWN = {"help", "description", "epilog", "metavar"}  # keywords of argparse


class Pseudo(gettext.NullTranslations):
    """A language that brackets each message."""

    def gettext(self, message: str) -> str:
        return f"⟦{message}⟧"

    def ngettext(self, one: str, many: str, n: int) -> str:
        return f"⟦{one if n == 1 else many}⟧"


@pytest.fixture
def pseudo() -> Iterator[None]:
    wording.use(Pseudo())
    yield
    wording.use(gettext.NullTranslations())


def shown(node: ast.Call) -> list[ast.expr]:
    """The arguments of a call that a person reads."""
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    owner = ast.unparse(node.func).split(".")[0]
    keyword = [k.value for k in node.keywords if k.arg in SHOWN]
    first = node.args[:1] if name == "print" or (owner == "log" and name in LOGS) else []
    return first + keyword


def is_prose(node: ast.expr) -> bool:
    """Whether the expression is a literal with a word in it."""
    text = ast.unparse(node) if isinstance(node, ast.JoinedStr) else getattr(node, "value", "")
    literal = isinstance(node, ast.Constant | ast.JoinedStr) and isinstance(text, str)
    words = text.replace("%s", " ").split() if literal else []
    return any(word.isalpha() and len(word) > 1 for word in words)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_prose_passes_gettext(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        found = []
        if isinstance(node, ast.Call):
            found = shown(node)
        elif isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            found = node.exc.args[:1]
        for text in found:
            assert not is_prose(text), f"line {text.lineno}: wrap it in _()"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_messages_are_constants(path):
    """xgettext collects constants only."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        name = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id
        if name in ("_", "plural") and path.name != "wording.py":
            texts = node.args[:1] if name == "_" else node.args[1:3]
            assert all(isinstance(text, ast.Constant) for text in texts), node.lineno


def outside(text: str) -> list[str]:
    """Words that are in no message."""
    while (shorter := re.sub(r"⟦[^⟦⟧]*⟧", "", text)) != text:
        text = shorter
    return [word for word in text.split() if word.isalpha() and len(word) > 2]


def test_a_report_is_translated(pseudo, tmp_path):
    """What is left are names, values, commands and units."""
    files = write_report(ROOT / "results" / "demo", tmp_path).files
    page = files[0].read_text(encoding="utf-8").split("</style>")[1].split("<script>")[0]
    texts = [html.unescape(text) for text in re.findall(r">([^<>]+)<", page)]
    known = {"posenc", "alibi", "rope", "sinusoidal", "EPYC", "AMD", "threads", "tokenizer", "char"}
    known |= {"cpu", "shakespeare", "seed", "python", "lab", "demo", "ok", "nats"}
    left = {text: words for text in texts if (words := set(outside(text)) - known)}
    code = [text for text in left if text.startswith(("python ", "{'micro", "micro-Transformer"))]
    assert left.keys() <= set(code), left


def test_fields_are_filled_after_translation(pseudo):
    assert _("{name} is done", name="{x}") == "⟦{x} is done⟧"
    assert plural(1, "{n} run", "{n} runs") == "⟦1 run⟧"
    assert (
        plural(2000, "{n} run of {sweep}", "{n} runs of {sweep}", sweep="a") == "⟦2,000 runs of a⟧"
    )
