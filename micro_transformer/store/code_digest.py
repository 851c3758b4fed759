"""Hashes the source code that a training or a run depends on, for its fingerprint.

Hashed are the given modules and everything of this package that they import, without comments and
docstrings. A new component, a plot or a docstring leaves all stored trainings valid; a change of
the trainer invalidates them.
"""

import ast
import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
ROOT = PACKAGE.name
# Modules for validation, storage and progress output: trained weights do not depend on them.
NO_FACTORS: tuple[str, ...] = (
    "config.knobs",
    "config.components",
    "config.schema",
    "config.sections",
    "config.compatibility",
)
NO_FACTORS += ("config.choices", "records.run_record", "store.code_digest", "store.checkpoints")
NO_FACTORS += ("store.contents", "hashing", "disk", "durable", "temporary_files", "progress")
NO_FACTORS += ("wording",)
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
    imports = tuple(sorted({name for name in _imports(tree) if name.split(".")[0] == ROOT}))
    return hashlib.sha256(ast.unparse(_without_docstrings(tree)).encode()).hexdigest()[:12], imports


def _imports(tree: ast.Module) -> Iterable[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


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
