"""What does nothing is no part of an identity: neutral groups and knobs, whoever adds them."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from micro_transformer.config import choices, groups, neutral
from micro_transformer.config.groups import GROUPS
from micro_transformer.config.resolve import resolve
from micro_transformer.records.record_files import RECORD, load_records
from micro_transformer.records.rows import collect
from micro_transformer.records.run_record import to_dict
from micro_transformer.runs.planning import make_plan
from micro_transformer.store.fingerprints import fingerprints

ROOT = Path(__file__).resolve().parents[2]
RESULTS = sorted(path for path in (ROOT / "results").iterdir() if path.is_dir())
JOBS = ["", "posenc=alibi train=smoke seed=7", "base=long train=extend", "scaling=yarn eval=none"]
TOY = ["tuner=toy", "train.toy=true", "budget.toy=1", "base=long base.seed=7 train=extend"]


def test_the_table_has_every_folder_and_the_choice_that_does_nothing():
    assert sorted(GROUPS) == choices.groups()
    for name, group in GROUPS.items():
        if group.neutral is not None:
            assert choices.read_choice(name, groups.NONE) == group.neutral


# --- a toy group and toy knobs, in a copy of the lab ---

PRINT = """
import json, sys
from micro_transformer.config.resolve import resolve
from micro_transformer.runs.planning import make_plan
from micro_transformer.store.fingerprints import fingerprints
for words in sys.argv[1:]:
    (job,) = make_plan(words.split()).jobs
    prints = fingerprints(resolve(job.config), "data")
    print(json.dumps([prints.train, prints.run, job.folder.name, job.id]))
"""
ADDED = {
    "micro_transformer/nn/tuners/base.py": "class Tuner:\n    pass\n",
    "micro_transformer/nn/tuners/none.py": """
from micro_transformer.nn.tuners.base import Tuner

class NoTuner(Tuner):
    pass

class Toy(Tuner):
    pass
""",
    "conf/tuner/none.yaml": "# Nothing\nkind: NoTuner\n",
    "conf/tuner/toy.yaml": "# A toy\nkind: Toy\n",
}
SECTIONS, CONFIG = "micro_transformer/config/sections.py", "conf/config.yaml"
LINE = "'tuner': Group('nn/tuners', 'Tuner', trained=True, neutral={'kind': 'NoTuner'}),"
CHANGED = [  # file, text, the text in its place
    ("micro_transformer/config/groups.py", "GROUPS = {\n", f"GROUPS = {{\n    {LINE}\n"),
    (
        SECTIONS,
        "    kv_mb: Positive | None",
        "    kv_mb: float | None\n    toy: float | None = None",
    ),
    (SECTIONS, "    steps: Count\n", "    steps: Count\n    toy: bool = False\n"),
    (CONFIG, "  - base: none\n", "  - base: none\n  - tuner: none\n"),
    (CONFIG, "  kv_mb: null", "  toy: null\n  kv_mb: null"),
    ("conf/train/quick.yaml", "steps: 280", "toy: false\nsteps: 280"),
]


def identities(lab: Path, *jobs: str) -> list[list[str]]:
    """Train and run fingerprint, folder and id of jobs, by the code and conf/ of a lab."""
    command = [sys.executable, "-c", PRINT, *jobs]
    env = {**os.environ, "PYTHONPATH": str(lab)}
    done = subprocess.run(command, cwd=lab, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def extended(tmp_path_factory):
    """A copy of the lab with a trained group and two knobs more, as one would add them."""
    lab = tmp_path_factory.mktemp("lab")
    skipped = shutil.ignore_patterns("__pycache__")
    for folder in ("micro_transformer", "conf"):
        shutil.copytree(ROOT / folder, lab / folder, ignore=skipped)
    for name, text in ADDED.items():
        (lab / name).parent.mkdir(exist_ok=True)
        (lab / name).write_text(text)
    for name, old, new in CHANGED:
        text = (lab / name).read_text()
        assert old in text, (name, old)
        (lab / name).write_text(text.replace(old, new, 1))
    return lab


def test_a_group_and_knobs_at_their_neutral_values_change_no_identity(extended):
    before, after = identities(ROOT, *JOBS), identities(extended, *JOBS, *TOY)
    assert after[: len(JOBS)] == before
    tuner, recipe, budget, seed = after[len(JOBS) :]
    plain, _, tuned, _ = before
    assert tuner[0] != plain[0] and recipe[0] != plain[0] and seed[0] != tuned[0]
    assert budget[0] == plain[0] and budget[1] != plain[1]
    assert not {part for one in (tuner, recipe, budget) for part in one[1:]} & {*plain}


# --- configurations of other versions ---


def test_a_configuration_without_the_neutral_means_the_same_one():
    config = resolve(make_plan(["base=long", "train=extend"]).jobs[0].config)
    bare = neutral.without_neutral(config)
    assert bare != config and neutral.without_neutral(bare) == bare
    assert neutral.with_neutral(bare) == config == neutral.with_neutral(config)
    assert fingerprints(neutral.with_neutral(bare), "d") == fingerprints(config, "d")


def told(records):
    return [(b.title, b.factors, [r.levels for r in b.rows], b.mixed) for b in collect(records)]


@pytest.mark.parametrize("folder", RESULTS, ids=lambda path: path.name)
def test_runs_before_and_after_a_group_existed_are_one_configuration(folder, monkeypatch, tmp_path):
    """Every second record is as if written after the group and a knob were added."""
    records = load_records(folder).records
    before = told(records)
    monkeypatch.setitem(groups.NEUTRAL, "toy", {"kind": "NoToy"})
    monkeypatch.setitem(GROUPS, "toy", groups.Group(neutral={"kind": "NoToy"}))
    assert told(load_records(folder).records) == before
    for i, record in enumerate(records):
        if i % 2:
            record.config |= {"toy": {"kind": "NoToy"}}
            record.choices |= {"toy": "none"}
            if record.choices.get("base", "none") == "none":
                record.config |= {"base": {}}
                record.config["train"].pop("base", None)
                record.choices |= {"base": "none"}
        (tmp_path / f"{i:03d}").mkdir()
        (tmp_path / f"{i:03d}" / RECORD).write_text(json.dumps(to_dict(record)))
    assert told(load_records(tmp_path).records) == before
