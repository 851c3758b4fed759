"""Hashes the source code that a training or a run depends on, for its fingerprint.

Hashed are the given modules and everything of this package that they import, without comments and
docstrings; of import lines of this package only what they import. A new component, a plot or a
docstring leaves all stored trainings valid; a change of the trainer invalidates them.
"""

import ast
import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
ROOT = PACKAGE.name
# Modules for validation, storage, texts and progress: trained weights do not depend on them.
NO_FACTORS = (
    "config.base", "config.choices", "config.compatibility", "config.components", "config.groups",
    "config.knobs", "config.neutral", "config.schema", "config.sections", "disk", "durable",
    "hashing", "progress", "records.run_record", "store.checkpoints", "store.code_digest",
    "store.contents", "temporary_files", "wording",
)  # fmt: skip
BYSTANDERS = {f"{ROOT}.{name}" for name in NO_FACTORS}


def code_digests(modules: Iterable[str]) -> dict[str, str]:
    """Maps module -> hash of its code, for the modules and all their imports in this package."""
    found: dict[str, str] = {}
    queue = list(modules)
    while queue:
        name = queue.pop()
        if name in found or name in BYSTANDERS or (path := _path(name)) is None:
            continue
        found[name], imports = _read(path, path.stat().st_mtime_ns)
        queue += imports
    return dict(sorted(found.items()))


def _path(module: str) -> Path | None:
    """The module's file; None for a package (its __init__ is empty) or a foreign module."""
    parts = module.split(".")
    if parts[0] != ROOT or len(parts) < 2 or not all(map(str.isidentifier, parts)):
        return None
    path = PACKAGE.joinpath(*parts[1:]).with_suffix(".py")
    return path if path.is_file() else None


@cache
def _read(path: Path, _changed: int) -> tuple[str, tuple[str, ...]]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    own = {pair for node in ast.walk(tree) for pair in _imports(node)}
    modules = {part for name, _ in own for part in (name, name.rpartition(".")[0])}
    imported = sorted(f"{name} as {bound}" for name, bound in own if not _is_bystander(name))
    tree.body = [node for node in tree.body if not _imports(node)]
    text = "\n".join([*imported, ast.unparse(_without_docstrings(tree))])
    return hashlib.sha256(text.encode()).hexdigest()[:12], tuple(sorted(modules))


def _is_bystander(name: str) -> bool:
    return not BYSTANDERS.isdisjoint((name, name.rpartition(".")[0]))


def _imports(node: ast.AST) -> list[tuple[str, str]]:
    """(dotted name, name bound to it) of each name of this package that a statement imports."""
    if not isinstance(node, ast.Import | ast.ImportFrom):
        return []
    prefix = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
    found = [(prefix + alias.name, alias.asname or alias.name) for alias in node.names]
    return [pair for pair in found if pair[0].split(".")[0] == ROOT]


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body = node.body[1:] or [ast.Pass()]
    return tree
