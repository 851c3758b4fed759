"""Each view, reshape, transpose, … in nn/ bears its resulting shape as a comment."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

NN = Path(__file__).parents[2] / "micro_transformer" / "nn"
METHODS = {"view", "reshape", "transpose", "permute", "unbind", "split", "unflatten", "flatten"}
METHODS |= {"movedim", "swapaxes"}
TRANSPOSES = {"T", "mT"}
BLOCKS = (ast.stmt, ast.ExceptHandler, ast.match_case)  # whose statements are visited one by one
SHAPE = re.compile(r"\([^()]*,[^()]*\)")
LETTER = re.compile(r"\b[A-Za-z][qk]?\b")  # B, T, Tq, d, ..., no longer names


def layout_changes(tree: ast.Module) -> Iterator[tuple[int, int]]:
    """First and last line of each statement that changes a layout; of a block, its header's."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.stmt):
            continue
        body = getattr(node, "body", None)
        parts = [n for n in ast.iter_child_nodes(node) if not isinstance(n, BLOCKS)]
        if any(_changes(inner) for part in parts for inner in ast.walk(part)):
            yield node.lineno, body[0].lineno - 1 if body else node.end_lineno or node.lineno


def _changes(node: ast.AST) -> bool:
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Attribute) and node.func.attr in METHODS
    return isinstance(node, ast.Attribute) and node.attr in TRANSPOSES


def faults(text: str) -> list[str]:
    """Layout changes without a shape on their lines or the line above, letters without a legend."""
    tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
    comments = {t.start[0]: t for t in tokens if t.type == tokenize.COMMENT}
    legend = " ".join(t.string for t in comments.values() if t.start[1] == 0)
    found = []
    for first, last in layout_changes(ast.parse(text)):
        near = (comments[line].string for line in range(first - 1, last + 1) if line in comments)
        shapes = [shape for comment in near for shape in SHAPE.findall(comment)]
        if not shapes:
            found.append(f"line {first}: no shape")
        for letter in sorted(set(LETTER.findall(" ".join(shapes))) - set(LETTER.findall(legend))):
            found.append(f"line {first}: {letter} is in no legend")
    return found


def test_each_layout_change_bears_its_shape():
    found = {str(path.relative_to(NN)): faults(path.read_text()) for path in NN.rglob("*.py")}
    assert not {name: lines for name, lines in found.items() if lines}


def test_a_missing_shape_or_legend_is_found():
    assert faults("x = y.view(2, 3)\n") == ["line 1: no shape"]
    assert faults("if y.mT is x:\n    pass  # (B, T)\n") == ["line 1: no shape"]
    assert faults("x = y.mT  # (B, T)\n") == [f"line 1: {c} is in no legend" for c in "BT"]
    assert faults("# B batch, T tokens\n# (B, T)\nx = y.mT\n") == []
