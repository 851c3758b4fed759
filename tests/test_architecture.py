"""The house keeps its shape: imports go down the floors, files stay small, data is never code."""

import ast
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "micro_transformer"
FILES = sorted(PACKAGE.rglob("*.py"))
# A floor imports floors below it. Rooms of one floor do not know each other.
FLOORS = [
    {"knobs", "components", "schema", "fits", "results", "measures", "fingerprint"}
    | {"repro", "machine", "progress", "store", "stop", "supervise", "memory", "inventory"}
    | {"presence", "sweepfolder", "ranks", "choices", "console", "storekeeping"}
    | {"contents", "disk", "endings", "leftovers"},
    {"nn", "decoding", "data", "rows", "muon"},
    {"tasks", "generation", "identity", "optimizers", "stats"},
    {"subject", "probes", "tables", "lineage"},
    {"training", "evals", "bench", "plots", "command_line"},
    {"build", "equip", "composing"},
    {"worker", "planning", "report", "status"},
    {"jobs", "forecast"},
    {"app", "evaluate", "verify"},
]
GROUND = FLOORS[0]
TORCHLESS = GROUND | {"stats", "tables", "plots", "report", "planning", "command_line", "composing"}
TORCHLESS |= {"identity", "app", "jobs", "forecast", "status", "lineage"}


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def floor(name: str) -> int:
    return next(i for i, rooms in enumerate(FLOORS) if name in rooms)


def imports(path: Path, *, at_import_time: bool = False) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if at_import_time else ast.walk(tree)
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def own_room(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def test_every_room_has_a_floor():
    rooms = {own_room(path) for path in FILES} - {"__init__"}
    assert rooms <= set().union(*FLOORS)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_down(path):
    own = own_room(path)
    if own == "__init__":
        return
    for module in imports(path):
        other = room(module) if module.startswith("micro_transformer.") else ""
        if other and other != own and not (own in GROUND and other in GROUND):
            assert floor(other) < floor(own), f"{own} must not import {module}"


@pytest.mark.parametrize("name", sorted(TORCHLESS))
def test_what_runs_before_torch_does_not_load_it(name):
    for path in [p for p in FILES if own_room(p) == name]:
        assert not {m for m in imports(path, at_import_time=True) if m.split(".")[0] == "torch"}


def test_hydra_is_known_to_the_app_alone():
    knowing = {own_room(p) for p in FILES if any(m.startswith("hydra") for m in imports(p))}
    assert knowing <= {"app", "planning", "composing", "command_line", "choices"}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_files_and_functions_stay_small(path):
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= 300
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            lines = node.end_lineno - node.lineno + 1
            assert lines <= 60, f"{node.name} has {lines} lines"
            if node.name == "__init__":
                assert len(node.args.args) + len(node.args.kwonlyargs) - 1 <= 8 or "knob" in text


FORBIDDEN = {
    "eval": lambda c: isinstance(c.func, ast.Name) and c.func.id == "eval",
    "exec": lambda c: isinstance(c.func, ast.Name) and c.func.id == "exec",
    "pickle": lambda c: ast.unparse(c.func).startswith(("pickle.", "torch.load", "joblib.load")),
    "yaml.load": lambda c: ast.unparse(c.func) in ("yaml.load", "yaml.unsafe_load"),
    "instantiate": lambda c: ast.unparse(c.func).endswith("instantiate"),
    "shell=True": lambda c: any(k.arg == "shell" for k in c.keywords),
    "extractall": lambda c: (
        ast.unparse(c.func).endswith("extractall")
        and not any(k.arg == "filter" for k in c.keywords)
    ),
}


@pytest.mark.parametrize("name", FORBIDDEN)
def test_data_is_never_code(name):
    for path in FILES:
        calls = (n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call))
        assert not any(FORBIDDEN[name](call) for call in calls), path


def test_no_option_letter_in_python():
    letters = re.compile(r"""option\s*(==|in|!=)|["'][A-F]["']\s*(:|==)""")
    assert not [p for p in FILES if letters.search(p.read_text(encoding="utf-8"))]
