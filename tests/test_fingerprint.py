"""Identity follows what is computed: words about code change nothing, code does."""

import shutil

import pytest

from micro_transformer import fingerprint


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A copy of a small package: a.py imports b.py; c.py stands alone."""
    (tmp_path / "a.py").write_text('"""Doc."""\nfrom micro_transformer import b\n\nx = 1\n')
    (tmp_path / "b.py").write_text("def f():\n    '''Doc.'''\n    return 2\n")
    (tmp_path / "c.py").write_text("y = 3\n")
    monkeypatch.setattr(fingerprint, "PACKAGE", tmp_path)
    yield tmp_path
    shutil.rmtree(tmp_path)


def digests():
    fingerprint._read.cache_clear()
    return fingerprint.code_digests(["micro_transformer.a"])


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


@pytest.mark.parametrize("file, text", [("a.py", "x = 2\n"), ("b.py", "def f():\n    return 3\n")])
def test_what_computes_changes_the_identity(package, file, text):
    before = digests()
    (package / file).write_text(text)
    assert digests() != before


def test_a_digest_does_not_depend_on_the_order_of_keys():
    assert fingerprint.digest({"a": 1, "b": [2.0, None]}) == fingerprint.digest(
        {"b": [2.0, None], "a": 1}
    )
    assert fingerprint.digest({"a": 1}) != fingerprint.digest({"a": 1.5})
