"""Every override, flag or variable that a user can type gives a plan or a one-line error."""

import re
import shutil
from pathlib import Path

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given, settings
from hypothesis import strategies as st

from micro_transformer.config import choices, schema
from micro_transformer.config.base import base_of
from micro_transformer.config.overrides import LARGEST, BadConfig, parsed, split
from micro_transformer.config.resolve import resolve
from micro_transformer.runs.planning import make_plan


def complaint(*words, lines=1):
    with pytest.raises(BadConfig) as caught:
        make_plan(words)
    said = caught.value.lines
    assert len(said) <= lines and all(line.isprintable() and len(line) < 500 for line in said)
    return " | ".join(said)


# These are refused before anything is composed: each takes milliseconds.
REFUSED = {
    "=1": "no key", "@=1": "no key", " =1": "no key", "": "no key", "seed": "write key=value",
    "~seed": "added or removed", "+x=1": "added or removed", "++seed=1": "added or removed",
    "posenc@x=rope": "a choice has its own place", "posenc:rope": "write key=value",
    "seed='": "quotes within quotes", "seed=\"'": "quotes", "seed=a'b'c": "quotes",
    "seed=\x00": "control characters", "seed=\udcff": "control", "seed..x=1": "cannot be read",
    "seed=" + "1" * 5000: "limit", "seed=" + "[" * 400: "seed=", "x" * 999 + "=1": "no key has",
    "seed=" + "1," * LARGEST: "more than 10,000 values",
    "seed=interval(0.1,0.2)": "no single values", "seed=range(5,5)": "no value",
    "posenc=glob(zzz)": "there are alibi, learned", "seed=glob(*)": "no value",
    "seed=range(0,2000000)": "2,000,000 values; a sweep has at most 10,000",
    "posenc=range(0,2000000)": "2,000,000 values", "seed=shuffle(range(0,1e9))": "values",
    "seed=sort(range(0,2000000))": "values", "train.lr=range(0.1,0.2,1e-9)": "100,000,000 values",
    "seed=range(0,1,0)": "step not 0", "seed=range(0,inf)": "finite", "seed=range(nan,1)": "finite",
    "seed=range(0,1" + "0" * 400 + ")": "finite", "seed=choice(choice(1,2),3)": "within another",
    "seed=choice()": "empty", "seed=str(range(1,3))": "write key=value", "posenc=": "one of alibi",
    "posenc=null": "posenc=null: must be one of", "run=3": "write run.KEY=value",
    "hydra=1": "closed here", "hydra.xxx=1": "closed here", "hydra.run=1": "closed here",
    "hydra/launcher=joblib,basic": "cannot be swept", "hydra.run.dir='a','b'": "cannot be swept",
    "--dry-run": "no such flag.*check=true", "--posenc=rope": "did you mean posenc",
    "--multirn": "did you mean multirun", "--config-dir=x": "no such flag", "-x": "no such flag",
    "--experimental-rerun": "no such flag", "-m=1": "no such flag", "--cfg=nope": "one of job",
    "--info=x": "one of all",
}  # fmt: skip


@pytest.mark.parametrize("word", REFUSED, ids=lambda word: ascii(word)[:40])
def test_an_odd_word_is_refused_in_one_line(word):
    for others in ([], ["posenc=rope,alibi", "-m"]):
        assert re.search(REFUSED[word], complaint(*others, word))


FRAGMENTS = st.sampled_from(
    [*"=,.:@/+~-_ '\"()[]{}$\\%01", "seed", "posenc", "range(", "glob(*)", "\0"]
)


@settings(max_examples=200)
@given(st.lists(FRAGMENTS | st.characters(), max_size=12).map("".join))
def test_no_text_is_more_than_a_word_or_a_complaint(text):
    with initialize_config_dir(str(choices.CONF), version_base="1.3"):
        parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
        try:
            words = split([text])
            assert len(parsed(parser, words.texts)) == len(words.texts)
        except BadConfig as bad:
            assert all(line.isprintable() for line in bad.lines)


def test_every_wrong_value_is_told_at_once():
    told = {
        "seed=9223372036854775808": r"seed=9223372036854775808: must be in \[0, 2\^63\)",
        "train.steps=9223372036854775808": r"train.steps=\d+: must be in \[1, 2\^63\)",
        "train.lr=1" + "0" * 400: r"train.lr=1000.*: must be a number in",
        "train.clip=1" + "0" * 21: r"train.clip=10+: must be a number in",
        "bench.threads=9000000000000000000": r"bench.threads=9\d+: must be in \[1, 5000\]",
        "run.timeout_s=3000000": "run.timeout_s=3000000: must be in",
        "store.dir=": r"store.dir=: must name a folder \(is a variable unset",
        "data.dir=~nobody-here/x": "data.dir=~nobody-here/x: no such home",
        "hydra.run.dir=a/" + "b" * 256: "hydra.run.dir=a/b.*: must be a path .* 255 bytes",
    }
    said = complaint(*told, lines=len(told))
    assert all(re.search(rule, said) for rule in told.values()), said


IN_SWEEPS = {
    "hydra.sweep.subdir=../../up": "plain name", "hydra.sweep.subdir=/abs": "plain name",
    "hydra.sweep.subdir=": "plain name", "hydra.sweep.subdir=same": "would write into",
    "hydra.sweep.dir=": "must name a folder", "run.sweep=..": "plain name",
    "run.sweep=" + "\u00f1" * 99: "plain name", "train.lr=range(1,9000)": "17,998 jobs: .* 10,000",
    "run.show_samples=1,2": "two jobs would write into",
}  # fmt: skip


@pytest.mark.parametrize("word", IN_SWEEPS, ids=lambda word: ascii(word)[:40])
def test_no_job_leaves_its_sweep_or_shares_a_folder(word):
    assert re.search(IN_SWEEPS[word], complaint(word, "seed=1,2", "-m"))


TYPED = {
    "store.dir=~/x": str(Path.home() / "x"), "store.dir=/data/run=1/ck": "/data/run=1/ck",
    "store.dir=a'b, c": "a'b, c", "store.dir=2026": "2026",
}  # fmt: skip
NAMES = {"run.sweep=2026": "2026", "run.sweep=1e3": "1e3", "run.sweep=a\u00f1o": "a\u00f1o"}


def test_a_folder_and_a_name_are_what_was_typed():
    for word, folder in TYPED.items():
        assert make_plan([word]).jobs[0].config["store"]["dir"] == folder
    for word, name in NAMES.items():
        plan = make_plan([word, "-m"])
        assert plan.folder.name == name and plan.jobs[0].config["run"]["sweep"] == name


def test_a_knob_that_every_swept_choice_has_may_be_set():
    for words, number in (
        (["scaling=linear,ntk", "scaling.factor=8"], 2),
        (["cache=paged,paged_int8", "cache.block=64,128"], 4),
        (["sweep=cache", "cache=paged,paged_int8", "cache.block=64"], 6),
    ):
        plan = make_plan([*words, "-m"])
        assert len({job.folder for job in plan.jobs}) == number
    said = complaint("cache=none,paged", "cache.block=64", "-m")
    assert "cache.block: no such key in cache=none; sweep over cache=paged" in said
    assert "no such key; did you mean" in complaint("cache=none,contiguous", "cache.blok=4", "-m")


@pytest.mark.parametrize("sweep", [s for s in schema.choices_of("sweep") if s != "none"])
def test_no_two_jobs_of_a_named_sweep_share_a_folder(sweep):
    """sweep=decode once wrote the jobs of two seeds into one folder: half of the records lost, and
    the same command measured all again, for ever."""
    words = [f"sweep={sweep}", "seed=1,2"]
    first, again = make_plan(words), make_plan(words)
    folders = [job.folder for job in first.jobs]
    assert len(set(folders)) == len(folders) and folders == [job.folder for job in again.jobs]
    assert {folder.parent for folder in folders} == {first.folder}


def test_names_are_short_however_much_is_swept_and_however_long_choices_are(lab):
    shares = ["weight_decay", "min_lr_ratio", "label_smoothing", "dropout", "decay_from", "lr"]
    counts = ["batch_size", "accumulate", "checkpoint_every", "patience", "clip", "matrix_lr"]
    words = [f"train.{k}=0.1,0.2" for k in shares] + [f"train.{k}=1,2" for k in counts]
    name = make_plan([*words, "-m"]).folder.name
    assert len(name) <= schema.LONGEST_NAME and name.startswith("weight_decay-min_lr_ratio-")
    shutil.copy(lab / "model" / "tiny.yaml", lab / "model" / ("\u00f1" * 100 + ".yaml"))
    (job,) = make_plan(["model='" + "\u00f1" * 100 + "'"]).jobs
    assert len(job.folder.name.encode()) <= schema.LONGEST_NAME and "-s42-" in job.folder.name


@pytest.mark.parametrize(
    "variables",
    ["RANK=1", "RANK=x", "WORLD_SIZE=", "WORLD_SIZE=abc", "WORLD_SIZE=2", "RANK=2 WORLD_SIZE=2",
     "RANK=0 WORLD_SIZE=2", "LOCAL_WORLD_SIZE=0", "RANK=-1 WORLD_SIZE=1", "LOCAL_RANK=x"],
)  # fmt: skip
def test_what_torchrun_did_not_set_is_refused_by_name(variables, monkeypatch):
    for variable in variables.split():
        monkeypatch.setenv(*variable.split("="))
    said = complaint("check=true")
    assert "unset" in said and "torchrun" in said and variables.split("=")[0] in said


# --- the files of conf/ ---


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """A copy of conf/ that a test may change."""
    monkeypatch.setattr(choices, "CONF", Path(shutil.copytree(choices.CONF, tmp_path / "conf")))
    return tmp_path / "conf"


BROKEN = {
    b"steps: [1": "mine.yaml, line 1", b"steps: 1\nsteps: 2": "mine.yaml, line 2: found duplicate",
    b"\tsteps: 1": "mine.yaml, line 1", b"steps: \xff": "mine.yaml: not UTF-8",
    b"- 1": "must be a mapping", b"lr: ${nowhere}": "nowhere",
    b"lr: ${.steps}\nsteps: ${.lr}": "Recur",
    b"a: &a [*a]": "recursion", b"defaults: [nope]": "nope", b"defaults: 5": "default",
    b"lr: !!python/name:os.system": "line 1", b"lr: ${oc.env:NOT_SET_HERE}": "NOT_SET_HERE",
    b"lr: ${nope:1}": "nope", b"a: 1\x00": "mine", b"": "train", b"lr: 0.1": "train.steps: missing",
    b"_target_: os.system": "never code",
}  # fmt: skip


@pytest.mark.parametrize("content", BROKEN, ids=ascii)
def test_a_broken_yaml_is_told_in_lines(lab, content):
    (lab / "train" / "mine.yaml").write_bytes(content)
    assert re.search(BROKEN[content], complaint("train=mine", lines=40))


@pytest.mark.parametrize("way", ["numbers", "before matrix_dtype", "defaults", "interpolations"])
def test_a_recipe_is_the_same_alone_in_a_sweep_and_as_a_base(lab, way):
    """Regression: `lr: 8e-3` was a number to Hydra but a string to PyYAML."""
    whole = (lab / "train" / "quick.yaml").read_text()
    content = {
        "numbers": re.sub("lr: .*", "lr: 8e-3", whole, count=1),
        "before matrix_dtype": re.sub("matrix_dtype: .*\n", "", whole),
        "defaults": "defaults: [smoke, _self_]\nlr: 8e-3\n",
        "interpolations": re.sub("warmup_steps: .*", "warmup_steps: ${model.num_layers}", whole),
    }[way]
    (lab / "train" / "mine.yaml").write_text(content)
    words = ["model=tiny", "train.context=256"]
    (alone,) = make_plan([*words[:1], "train=mine"]).jobs
    swept = make_plan([*words[:1], "train=smoke,mine", "-m"]).jobs[1]
    assert swept.config["train"] == alone.config["train"]
    (extended,) = make_plan([*words, "base=long", "base.train=mine", "train=extend"]).jobs
    assert base_of(extended.config)["train"] == alone.config["train"]
    for job in (alone, extended):
        told = resolve(job.config)
        recipes = [told["train"]] + ([told["origin"]["train"]] if told["origin"] else [])
        assert {recipe["matrix_dtype"] for recipe in recipes} <= {"fp32", "bf16"}
