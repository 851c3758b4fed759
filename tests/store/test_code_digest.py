"""Code digests change with code, not with comments or docstrings."""

import itertools
import os
import shutil
from types import SimpleNamespace

import pytest

from micro_transformer import hashing
from micro_transformer.config.resolve import resolve
from micro_transformer.runs.planning import make_plan
from micro_transformer.store import code_digest
from micro_transformer.store.fingerprints import fingerprints


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A copy of a small package: a.py imports b.py; c.py stands alone."""
    (tmp_path / "a.py").write_text('"""Doc."""\nfrom micro_transformer import b\n\nx = 1\n')
    (tmp_path / "b.py").write_text("def f():\n    '''Doc.'''\n    return 2\n")
    (tmp_path / "c.py").write_text("y = 3\n")
    monkeypatch.setattr(code_digest, "PACKAGE", tmp_path)
    yield tmp_path
    shutil.rmtree(tmp_path)


def digests():
    code_digest._read.cache_clear()
    return code_digest.code_digests(["micro_transformer.a"])


def test_imports_are_followed_and_strangers_left_out(package):
    assert set(digests()) == {"micro_transformer.a", "micro_transformer.b"}


@pytest.mark.parametrize(
    "file, text",
    [
        ("a.py", '"""Other doc."""\nfrom micro_transformer import b  # why\n\n\nx = 1\n'),
        ("b.py", "def f():\n    # a comment\n    return 2\n"),
        ("c.py", "y = 4\n"),
        ("d.py", "z = 5\n"),
    ],
)
def test_words_and_strangers_change_nothing(package, file, text):
    before = digests()
    (package / file).write_text(text)
    assert digests() == before


IMPORTS = "from micro_transformer import b\nfrom micro_transformer.c import y\n"
SAME_IMPORTS = """
from micro_transformer.c import (
    y,
)
from micro_transformer import b, wording
from micro_transformer.config import schema
"""


def test_of_import_lines_only_what_they_import_counts(package):
    """Not their order and form, nor modules on which no weights depend; another name does, even if
    its module is hashed already."""
    (package / "a.py").write_text(IMPORTS + "x = 1\n")
    before = digests()
    (package / "a.py").write_text(SAME_IMPORTS + "x = 1\n")
    assert digests() == before and len(before) == 3
    (package / "a.py").write_text(IMPORTS.replace("c import y", "c import z as y") + "x = 1\n")
    assert digests() != before and digests().keys() == before.keys()


@pytest.mark.parametrize("file, text", [("a.py", "x = 2\n"), ("b.py", "def f():\n    return 3\n")])
def test_what_computes_changes_the_identity(package, file, text):
    before = digests()
    (package / file).write_text(text)
    assert digests() != before


def test_a_digest_does_not_depend_on_the_order_of_keys():
    assert hashing.digest({"a": 1, "b": [2.0, None]}) == hashing.digest({"b": [2.0, None], "a": 1})
    assert hashing.digest({"a": 1}) != hashing.digest({"a": 1.5})


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """A copy of the whole package, and a function that computes a job's fingerprints with it."""
    skipped = shutil.ignore_patterns("__pycache__")
    root = shutil.copytree(code_digest.PACKAGE, tmp_path / "micro_transformer", ignore=skipped)
    monkeypatch.setattr(code_digest, "PACKAGE", root)
    config = resolve(make_plan(["posenc=rope"]).jobs[0].config)

    clock = itertools.count(1)

    def write(path, text):
        path.write_text(text)
        os.utime(path, ns=(next(clock),) * 2)  # two writes can fall into one tick

    return SimpleNamespace(root=root, write=write, identity=lambda: fingerprints(config, "data"))


def test_words_and_new_components_invalidate_no_training_and_code_that_trains_does(lab):
    """Each module in turn: a comment and a docstring change nothing; a statement changes the
    training's identity exactly where a training runs the module."""
    before = lab.identity()
    paths = sorted(lab.root.rglob("*.py"))
    trains = {code_digest.PACKAGE.joinpath(*name.split(".")[1:]) for name in before.factors["code"]}
    assert {p.stem for p in trains} >= {"trainer", "optimizers", "attention", "rope", "windows"}
    for path in (p for p in paths if p.stem != "__init__"):
        text = path.read_text()
        lab.write(path, f"# a comment\n{text}\n\nclass Said:\n    'said'\n")
        said = lab.identity()
        lab.write(path, f"# another\n{text}\n\nclass Said:\n    'in other words'\n")
        assert lab.identity().train == said.train, path
        is_trained = path.with_suffix("") in trains
        assert (said.train != before.train) == is_trained, path
        lab.write(path, text)
    for name in ("nn/posenc/new.py", "nn/cache/new.py", "bench/new.py", "decoding/new.py"):
        (lab.root / name).write_text((lab.root / "nn/posenc/rope.py").read_text())
    assert lab.identity().train == before.train


def test_a_name_that_is_no_module_has_no_code():
    names = [f"micro_transformer.{name}" for name in ("", "/", "/etc/passwd", "../run", "a b")]
    assert code_digest.code_digests(names) == {}
