"""A command line is either planned completely or rejected in one line, before anything runs."""

import dataclasses
import re

import pytest
from hydra import initialize_config_dir

from micro_transformer.config.composing import composed
from micro_transformer.config.overrides import BadConfig
from micro_transformer.config.schema import CONF
from micro_transformer.runs import planning
from micro_transformer.runs.planning import make_plan


def complaint(*words):
    with pytest.raises(BadConfig) as caught:
        make_plan(words)
    return caught.value.lines


@pytest.mark.parametrize(
    "words, expected",
    [
        (["posenc=ropee"], "posenc=ropee: must be one of .*did you mean rope"),
        (["posen=rope"], "posen: no such key; did you mean posenc"),
        (["model.d_modle=3"], "model.d_modle: no such key; did you mean model.d_model"),
        (["seed=abc"], "seed=abc: must be a whole number in"),
        (["seed=-1"], r"seed=-1: must be in \[0, 2\^63\)"),
        (["train.lr=0"], r"train.lr=0: must be in \(0, inf\]"),
        (["train.lr=nan"], "train.lr=nan: must be a number"),
        (["train.dropout=1"], r"train.dropout=1: must be in \[0, 1\)"),
        (["train.precision=int8"], "train.precision=int8: must be one of auto, fp32, bf16, fp16"),
        (["train.kernel=magic"], "train.kernel=magic: must be one of"),
        (["decoding=top_p", "decoding.top_p=0"], r"decoding.top_p=0: must be .*\(0, 1\]"),
        (["decoding=top_p", "decoding.top_p=1.5"], r"decoding.top_p=1.5: must be .*\(0, 1\]"),
        (["decoding=top_k", "decoding.top_k=0"], "decoding.top_k=0: must be"),
        (["decoding.temperature=-1"], "decoding.temperature=-1: must be"),
        (["model.num_heads=3"], "model.d_model=128, model.num_heads=3: the width must be"),
        (["model.d_model=20", "model.num_heads=4"], "rotates pairs of channels"),
        (["posenc=learned", "model.max_len=512"], "do not fit the table .* model.max_len=512"),
        (["posenc=learned", "task=regenta"], "task.window=8192: does not fit the table"),
        (["eval=recall", "task=shakespeare"], "RecallAtDistance needs pairs, which task kind"),
        (["posenc=learned", "bench=memory"], "bench.measures.memory: 8192 tokens do not fit the"),
        (["cache=paged", "cache.block=0"], r"cache.block=0: must be in \[1, 2\^63\)"),
        (["cache=paged", "cache.block=4096"], "cache.block=4096: longer than the longest .* 2080"),
        (["cache=sliding", "cache.window=0"], r"cache.window=0: must be in \[1, 2\^63\)"),
        (["cache=sink", "cache.sinks=600"], "cache.sinks=600: must be at most cache.window=508"),
        (["cache=paged_int8", "cache.group=48"], "cache.block=256: must be a multiple .*=48"),
        (
            ["cache=paged_int8", "cache.residual=8"],
            "cache.residual=8: must be at least cache.group=32",
        ),
        (["cache=paged_offload", "cache.hot=0"], r"cache.hot=0: must be in \[1, 2\^63\)"),
        (["scaling=ntk", "scaling.factor=0.5"], r"scaling.factor=0.5: must be in \[1, inf\]"),
        (["budget.kv_mb=0"], r"budget.kv_mb=0: must be .*\(0, inf\]"),
        (["train.context=8192"], "train.context=8192: longer than model.max_len=4096"),
        (["train.warmup_steps=400", "train.steps=400"], "must be less than train.steps=400"),
        (["device=cpu", "train.precision=fp16"], "needs device=cuda"),
        (["eval.measures.loss.split=test"], "Shakespeare has no such split; use train or val"),
        (["seed=1,2"], "add -m"),
        (["+extra=1"], "keys cannot be added or removed"),
        (["~seed"], "keys cannot be added or removed"),
        (["seed=[1,2"], "write key=value"),
        (["store.dir=${oc.env:HOME}"], "an interpolation"),
        (["seed=\x1b[31m"], "control characters"),
        (["posenc._target_=os.system"], "."),
        (["+posenc._target_=os.system"], "keys cannot be added"),
        (["hydra.launcher._target_=os.system"], "closed here"),
        (["hydra.job_logging.handlers.x.class=os.system"], "closed here"),
        (["hydra.searchpath=[file:///tmp]"], "closed here"),
        (["run.sweep=../elsewhere", "seed=1,2", "-m"], "run.sweep"),
    ],
    ids=lambda v: " ".join(v)[:40].replace("\x1b", "ESC") if isinstance(v, list) else "",
)
def test_bad_input_is_one_line_that_names_key_and_rule(words, expected):
    lines = complaint(*words)
    assert len(lines) <= 2
    assert any(re.search(expected, line) for line in lines), lines
    assert all(len(line) < 300 and "\n" not in line for line in lines)


def test_every_value_of_a_sweep_is_checked_before_the_first_job():
    assert "train.lr=-1" in complaint("train.lr=0.1,0.2,-1", "seed=1,2,3", "-m")[0]


def test_a_sweep_may_hold_senseless_cells_but_not_only_such():
    plan = make_plan(["model.num_heads=3,4", "-m"])
    assert len(plan.jobs) == 2
    assert "model.num_heads=3" in complaint("model.num_heads=3,5", "-m")[0]


@pytest.mark.parametrize(
    "words",
    [
        ["posenc=rope,alibi", "seed=1,2"],
        ["posenc=rope,none", "train.lr=0.1,0.2", "model=tiny"],
        ["cache=none,contiguous", "decoding=glob(*)", "posenc=alibi"],
        ["posenc=rope", "posenc.base=10,20", "seed=range(1,3)"],
        ["option=A", "train=quick,smoke", "eval=none"],
    ],
    ids=" ".join,
)
def test_the_fast_way_to_a_job_gives_what_hydra_composes(words):
    plan = make_plan([*words, "-m"])
    extra = plan.arguments[len(words) :]
    with initialize_config_dir(str(CONF), version_base="1.3", job_name="run"):
        for job in plan.jobs:
            assert job == planning._job(
                dict.fromkeys(job.overrides), composed([*job.overrides, *extra])
            )


def test_jobs_have_folders_of_their_own_and_the_same_command_the_same():
    first, again = (make_plan(["posenc=rope,alibi", "seed=1,2", "-m"]) for _ in range(2))
    assert len({job.folder for job in first.jobs}) == 4
    assert [job.folder for job in first.jobs] == [job.folder for job in again.jobs]


def test_how_a_run_is_run_is_no_part_of_its_identity():
    (plain,), (other,) = (
        make_plan(words).jobs
        for words in (["seed=1"], ["seed=1", "run.force=true", "store.dir=x", "check=true"])
    )
    (changed,) = make_plan(["seed=1", "train.steps=399"]).jobs
    assert plain.id == other.id != changed.id


def test_each_seed_is_a_round_in_an_order_of_its_own():
    jobs = make_plan(["posenc=rope,alibi,none", "cache=none,paged", "seed=1,2,3,4", "-m"]).jobs
    ordered = planning.in_rounds(jobs)
    assert sorted(job.folder.name for job in ordered) == sorted(job.folder.name for job in jobs)
    seeds = [job.config["seed"] for job in ordered]
    assert seeds == sorted(seeds)
    rounds = [[(job.choices["posenc"], job.choices["cache"]) for job in ordered[i : i + 6]]
              for i in range(0, 24, 6)]  # fmt: skip
    assert len(set(map(tuple, rounds))) > 1 and planning.in_rounds(jobs) == ordered


@pytest.mark.parametrize("words", [["device=cuda"], ["device=cuda", "seed=1,2", "-m"]])
def test_a_gpu_that_is_not_here_is_refused_unless_the_jobs_go_elsewhere(monkeypatch, words):
    monkeypatch.setattr(planning, "cuda_usable", lambda: False)
    with pytest.raises(BadConfig) as bad:
        make_plan(words)
    assert bad.value.lines == ["device=cuda: torch sees no CUDA GPU here; use device=cpu or auto"]
    monkeypatch.setattr(planning, "cuda_usable", lambda: True)
    plan = make_plan(words)
    monkeypatch.setattr(planning, "cuda_usable", lambda: False)
    for_slurm = dataclasses.replace(plan, multirun=True, workers=None)
    assert planning._possible_here(for_slurm) is for_slurm
