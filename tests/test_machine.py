"""Detected capabilities of a machine: instruction sets, cores, and limits set on them."""

import os
from functools import cache

import pytest

from micro_transformer import instruction_sets, machine
from micro_transformer.config import schema
from micro_transformer.config.resolve import resolve
from micro_transformer.machine import environment
from micro_transformer.runs.planning import make_plan

LAPTOP = "fpu sse4_1 avx f16c fma avx2"
SERVER = f"{LAPTOP} avx_vnni avx512f avx512bw avx512_vnni avx512_bf16 avx512_fp16 amx_bf16 amx_tile"
LIMITS = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")
SHARES = ("OMP_NUM_THREADS", "SLURM_CPUS_PER_TASK", "LOCAL_WORLD_SIZE")


@pytest.fixture(autouse=True)
def bare(monkeypatch):
    for name in (*LIMITS, *SHARES):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def cpu(monkeypatch, tmp_path):
    """The machine has a CPU with these flags."""

    def become(flags):
        (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nmodel name\t: X\nflags\t\t: {flags}\n")
        monkeypatch.setattr(instruction_sets, "CPUINFO", tmp_path / "cpuinfo")
        instruction_sets._lines.cache_clear()

    yield become
    instruction_sets._lines.cache_clear()


FINE_TUNED = ["base=long", "train.scaling=none"]  # so that each recipe has an origin


@cache
def planned(name):
    return make_plan([f"train={name}", *FINE_TUNED, "device=cpu"]).jobs[0].config


def autos():
    """The value of each `auto` on this machine, by recipe and knob, except thread counts."""
    found = {}
    for name in schema.choices_of("train"):
        config = resolve(planned(name))
        for train in (config["train"], (config["origin"] or {}).get("train", {})):
            found |= {(name, len(found), k): v for k, v in train.items() if k != "threads"}
    return found


@pytest.mark.parametrize(
    "limits",
    [
        {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"},
        {"ATEN_CPU_CAPABILITY": "avx2"},
        {"ONEDNN_MAX_CPU_ISA": "avx2"},
        {"DNNL_MAX_CPU_ISA": "AVX2"},
    ],
)
def test_a_server_limited_to_avx2_is_a_laptop(cpu, monkeypatch, limits):
    cpu(LAPTOP)
    laptop, flags = autos(), instruction_sets.cpu_flags()
    assert {v for (*_, k), v in laptop.items() if k == "matrix_dtype"} == {"fp32"}
    cpu(SERVER)
    assert autos() != laptop
    for name, value in limits.items():
        monkeypatch.setenv(name, value)
    assert autos() == laptop and instruction_sets.cpu_flags() == flags
    env = environment("cpu", 1)
    assert (env["isa"], env["cpu"]) == ("avx2", "X limited to avx2")


LEVELS = {
    "SSE41": ("sse4", False),
    "AVX": ("avx", False),
    "AVX2_VNNI": ("avx2_vnni", False),
    "AVX512_CORE": ("avx512", False),
    "avx512_core_vnni": ("avx512_vnni", False),
    "AVX512_CORE_BF16": ("avx512_bf16", True),
    "AVX512_CORE_FP16": ("avx512_fp16", True),
    "AVX512_CORE_AMX": ("amx", True),
    "ALL": ("amx", True),
    "unheard of": ("amx", True),
}


@pytest.mark.parametrize("level", LEVELS)
def test_each_level_of_onednn_leaves_what_it_names(cpu, monkeypatch, level):
    cpu(SERVER)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", level)
    assert (instruction_sets.newest(), instruction_sets.have_bf16()) == LEVELS[level]


@pytest.mark.parametrize("value, isa", [("default", "sse4"), ("avx512", "amx"), ("AVX2", "amx")])
def test_aten_is_obeyed_as_torch_reads_it(cpu, monkeypatch, value, isa):
    cpu(SERVER)
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", value)
    assert instruction_sets.newest() == isa


def test_without_proc_nothing_is_known_and_fp32_is_taken(monkeypatch, tmp_path):
    monkeypatch.setattr(instruction_sets, "CPUINFO", tmp_path / "none")
    instruction_sets._lines.cache_clear()
    assert not instruction_sets.cpu_flags() and not instruction_sets.have_bf16()
    assert instruction_sets.newest() and instruction_sets.cpu_name()
    instruction_sets._lines.cache_clear()


@pytest.mark.parametrize("said, has", [("8.0\n7.5\n", False), ("9.0\n", True), (None, True)])
def test_an_old_gpu_is_not_given_bf16(monkeypatch, said, has):
    def answer(*_, **__):
        if said is None:
            raise FileNotFoundError
        return machine.subprocess.CompletedProcess((), 0, said)

    monkeypatch.setattr(machine.subprocess, "run", answer)
    machine._compute_capability.cache_clear()
    assert machine.has_bf16("cuda") == has
    machine._compute_capability.cache_clear()


# --- cores ---


@pytest.fixture
def groups(monkeypatch, tmp_path):
    """The machine has 16 cores and cgroups with these files."""

    def become(own, files):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(16), raising=False)
        (tmp_path / "own").write_text(own)
        monkeypatch.setattr(machine, "OWN_CGROUPS", tmp_path / "own")
        monkeypatch.setattr(machine, "CGROUPS", tmp_path / "cgroup")
        for name, text in files.items():
            path = tmp_path / "cgroup" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    return become


V1 = "4:memory:/m\n2:cpu,cpuacct:/docker/1\n"
QUOTAS = {
    "none": ("0::/\n", {}, 16),
    "unlimited": ("0::/\n", {"cpu.max": "max 100000\n"}, 16),
    "v2": ("0::/\n", {"cpu.max": "400000 100000\n"}, 4),
    "half a core more": ("0::/\n", {"cpu.max": "250000 100000\n"}, 2),
    "less than a core": ("0::/\n", {"cpu.max": "50000 100000\n"}, 1),
    "more than there are": ("0::/\n", {"cpu.max": "9900000 100000\n"}, 16),
    "the group around": (
        "0::/a/b/c\n",
        {
            "a/cpu.max": "300000 100000",
            "a/b/cpu.max": "max 100000",
            "a/b/c/cpu.max": "500000 100000",
        },
        3,
    ),
    "path of the host": ("0::/host/1\n", {"cpu.max": "200000 100000"}, 2),
    "v1": (
        V1,
        {"cpu/docker/1/cpu.cfs_quota_us": "600000", "cpu/docker/1/cpu.cfs_period_us": "100000"},
        6,
    ),
    "v1, path of the host": (
        V1,
        {"cpu,cpuacct/cpu.cfs_quota_us": "300000", "cpu,cpuacct/cpu.cfs_period_us": "100000"},
        3,
    ),
    "v1, unlimited": (
        V1,
        {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"},
        16,
    ),
    "damaged": ("0::/\n", {"cpu.max": "0 0\n"}, 16),
}


@pytest.mark.parametrize("case", QUOTAS)
def test_a_containers_quota_bounds_the_cores(groups, case):
    own, files, cores = QUOTAS[case]
    groups(own, files)
    assert machine.cores() == machine.threads() == cores


@pytest.mark.parametrize(
    "env, processes, threads",
    [
        ({"OMP_NUM_THREADS": "1"}, 1, 1),
        ({"OMP_NUM_THREADS": "3,2"}, 1, 3),
        ({"OMP_NUM_THREADS": "99"}, 1, 16),
        ({"OMP_NUM_THREADS": ""}, 1, 16),
        ({"OMP_NUM_THREADS": "0"}, 1, 16),
        ({"OMP_NUM_THREADS": "many"}, 1, 16),
        ({"SLURM_CPUS_PER_TASK": "4"}, 1, 4),
        ({"SLURM_CPUS_PER_TASK": "4", "OMP_NUM_THREADS": "2"}, 1, 2),
        ({}, 3, 5),
        ({}, 99, 1),
        ({"LOCAL_WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}, 2, 8),  # torchrun's own default
        ({"LOCAL_WORLD_SIZE": "2", "OMP_NUM_THREADS": "4"}, 2, 4),
    ],
)
def test_threads_are_a_share_of_the_cores_and_no_more_than_wished(
    groups, monkeypatch, env, processes, threads
):
    groups("", {})
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    assert machine.threads(processes) == threads


def test_auto_threads_follow_in_training_and_measuring(groups, monkeypatch):
    groups("0::/\n", {"cpu.max": "300000 100000"})
    config = resolve(make_plan(["device=cpu"]).jobs[0].config)
    assert (config["train"]["threads"], config["bench"]["threads"]) == (3, 3)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    config = resolve(make_plan(["device=cpu"]).jobs[0].config)
    assert (config["train"]["threads"], config["bench"]["threads"]) == (1, 1)


def test_a_gpu_has_its_own_name(monkeypatch, tmp_path):
    """nvidia-smi is asked for the GPU that CUDA may use."""
    tool = tmp_path / "nvidia-smi"
    tool.write_text('#!/bin/sh\ncase "$*" in *--id=1*) echo H200 ;; *) echo "H100\nH200" ;; esac\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for visible, name in {"0": "H100", "1,0": "H200"}.items():
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        machine.gpu_name.cache_clear()
        assert environment("cuda", 1)["gpu"] == name
    tool.write_text("#!/bin/sh\nexit 9\n")
    machine.gpu_name.cache_clear()
    assert environment("cuda", 1)["gpu"] is None and environment("cpu", 1)["gpu"] is None
    machine.gpu_name.cache_clear()
