"""The house keeps its shape: imports go down the floors, files stay small, data is never code."""

import ast
import re
from pathlib import Path

import pytest

from micro_transformer.config.components import catalog

PACKAGE = Path(__file__).resolve().parents[1] / "micro_transformer"
FILES = sorted(PACKAGE.rglob("*.py"))
# A floor imports floors below it. Folders of one floor do not know each other.
FLOORS = [
    {"instruction_sets", "wording"},
    {
        "durable",
        "hashing",
        "instruction_sets",
        "machine",
        "memory",
        "progress",
        "seeds",
        "stop",
        "temporary_files",
    },
    {"console", "disk"},
    {"config"},
    {"records"},
    {"data", "decoding", "nn", "stats"},
    {"generation", "plots", "store", "tasks"},
    {"evals", "report", "training"},
    {"bench", "build"},
    {"runs"},
    {"commands"},
]
# `python -m micro_transformer.NAME` goes on working: a few lines that call commands/NAME.py.
ALIASES = {"data/__main__.py", "report/__main__.py", "store/__main__.py"}
ALIASES |= {"evaluate.py", "generate.py", "status.py", "verify.py"}
MAX_DEPTH, MOST_ARGUMENTS = 10, 8
# What stands between a command and its first job.
TORCHLESS = ("config", "records", "stats", "plots", "report", "console", "disk", "commands.app")
TORCHLESS += ("commands.report", "commands.status", "commands.store", "commands.verify")
TORCHLESS += ("runs.forecast", "runs.run_job", "runs.planning", "runs.supervise", "store.catalog")


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


def name_of(path: Path) -> str:
    return ".".join(("micro_transformer", *path.relative_to(PACKAGE).with_suffix("").parts))


def graph(*, at_import_time: bool = False) -> dict[str, set[str]]:
    """module -> modules of this package that it imports."""
    names = {name_of(path).removesuffix(".__init__") for path in FILES}
    found = {}
    for path in FILES:
        own = name_of(path).removesuffix(".__init__")
        asked = imports(path, at_import_time=at_import_time)
        asked = {m if m in names else m.rpartition(".")[0] for m in asked}
        found[own] = {m for m in asked if m in names and m not in (own, "micro_transformer")}
    return found


def is_alias(path: Path) -> bool:
    return str(path.relative_to(PACKAGE)) in ALIASES


def test_every_room_has_a_floor():
    rooms = {own_room(path) for path in FILES if not is_alias(path)} - {"__init__"}
    assert rooms == set().union(*FLOORS)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_down(path):
    own = own_room(path)
    if own == "__init__" or is_alias(path):
        return
    for module in imports(path):
        other = room(module) if module.startswith("micro_transformer.") else ""
        if other and other != own:
            assert floor(other) < floor(own), f"{own} must not import {module}"


@pytest.mark.parametrize("path", sorted(ALIASES))
def test_an_old_name_only_calls_its_command(path):
    """Nothing is defined there, and the command that it names is there."""
    tree = ast.parse((PACKAGE / path).read_text(encoding="utf-8"))
    assert not [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.ClassDef)]
    (target,) = [
        node.args[0].value.split(":")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    ]
    assert (PACKAGE.parent / f"{target.replace('.', '/')}.py").is_file()


def test_there_is_no_circle_and_no_chain_is_long():
    """Between files, imports inside functions included; a chain of imports has few links, without
    `wording`, a leaf that any file with text for people imports."""
    links, depth = graph(), {"micro_transformer.wording": 0}

    def measure(name, above):
        assert name not in above, f"a circle: {' -> '.join((*above, name))}"
        if name not in depth:
            depth[name] = 1 + max((measure(m, (*above, name)) for m in links[name]), default=0)
        return depth[name]

    deepest = max(links, key=lambda name: measure(name, ()))
    assert depth[deepest] <= MAX_DEPTH, f"{deepest} is {depth[deepest]} imports deep"


@pytest.mark.parametrize("start", TORCHLESS)
def test_what_runs_before_torch_does_not_load_it(start):
    """Neither itself nor through what it imports."""
    links, seen = graph(at_import_time=True), set()
    queue = [n for n in links if f"{n}.".startswith(f"micro_transformer.{start}.")]
    assert queue, f"no module {start}"
    while queue:
        name = queue.pop()
        if name not in seen:
            seen.add(name)
            queue += links[name]
    for path in [path for path in FILES if name_of(path) in seen]:
        loaded = {m.split(".")[0] for m in imports(path, at_import_time=True)}
        assert "torch" not in loaded, f"{start} loads torch by {name_of(path)}"


@pytest.mark.parametrize("group", ["arch", "task", "ffn", "posenc", "cache", "decoding"])
def test_a_component_is_imported_by_its_family_alone(group):
    """Others import its base class, so a new member, such as a second net, edits none of them."""
    concrete = {component.module for component in catalog(group).values()}
    homes = {module.rpartition(".")[0] for module in concrete}
    for name, found in graph().items():
        assert name.rpartition(".")[0] in homes or not found & concrete, name


def test_hydra_is_known_to_what_composes():
    knowing = {name_of(p) for p in FILES if any(m.startswith("hydra") for m in imports(p))}
    known = {"commands.app", "config.choices", "config.composing", "config.overrides"}
    assert knowing <= {f"micro_transformer.{name}" for name in known | {"runs.planning"}}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_files_and_functions_stay_small(path):
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= 300
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            lines = node.end_lineno - node.lineno + 1
            assert lines <= 60, f"{node.name} has {lines} lines"
            if node.name == "__init__":
                assert len(node.args.args) + len(node.args.kwonlyargs) - 1 <= MOST_ARGUMENTS


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
