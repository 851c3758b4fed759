"""An installation that would lack conf/ is rejected by setup.py."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def clone(tmp_path):
    for name in ("pyproject.toml", "setup.py", "README.md", "requirements.txt"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "micro_transformer").mkdir()
    shutil.copy(ROOT / "micro_transformer" / "__init__.py", tmp_path / "micro_transformer")
    return tmp_path


@pytest.mark.parametrize("kind, works", [("wheel", False), ("editable", True)])
def test_only_an_editable_install_works(clone, kind, works):
    """Calls the build hook that pip uses; downloads nothing."""
    program = f"import setuptools.build_meta as b; print(b.build_{kind}('made'))"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=clone, capture_output=True, text=True
    )
    assert (done.returncode == 0) == works, done.stderr
    if not works:
        last = done.stderr.strip().splitlines()[-1]
        assert last == "error: a wheel lacks conf/; install with `pip install -e .` in a clone"
