"""Instruction sets of the CPU that torch may use, without importing torch.

Limits set by the user or a container count: with ATEN_CPU_CAPABILITY or ONEDNN_MAX_CPU_ISA a server
computes as an older CPU does, and is treated as one.
"""

import os
import platform
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
# x86 instruction sets, oldest first -> prefixes of their flags in Linux's /proc/cpuinfo.
LADDER = {
    "sse4": ("sse4_1",),
    "avx": ("avx", "f16c"),
    "avx2": ("avx2", "fma"),
    "avx2_vnni": ("avx_",),
    "avx512": ("avx512",),
    "avx512_vnni": ("avx512_vnni",),
    "avx512_bf16": ("avx512_bf16",),
    "avx512_fp16": ("avx512_fp16",),
    "amx": ("amx_",),
}
# Value of the variable -> newest set of LADDER that it allows. Others are ignored, as in torch.
ATEN = {"default": "sse4", "avx2": "avx2"}
ONEDNN = {"sse41": "sse4", "avx2_vnni_2": "avx2_vnni", "avx512_core": "avx512"}
ONEDNN |= {step: step for step in ("avx", "avx2", "avx2_vnni")}
ONEDNN |= {f"avx512_core_{kind}": f"avx512_{kind}" for kind in ("vnni", "bf16", "fp16")}
ONEDNN |= {"avx10_1_512": "avx512_fp16"}
BF16 = {"avx512_bf16", "amx_bf16"}


def cpu_flags() -> frozenset[str]:
    """CPU flags that torch may use, by Linux's names; empty on other systems."""
    steps = list(LADDER)
    last = min([steps.index(limit) for limit in _limits()], default=len(steps))
    lost = tuple(prefix for step in steps[last + 1 :] for prefix in LADDER[step])
    return frozenset(flag for flag in _all_flags() if not flag.startswith(lost))


def newest() -> str:
    """The newest instruction set of LADDER that torch may use; without any, the machine type, as
    `arm64`."""
    flags = cpu_flags()
    steps = (s for s in reversed(LADDER) if any(f.startswith(LADDER[s][0]) for f in flags))
    return next(steps, platform.machine())


def cpu_name() -> str:
    """Model name of the CPU, with the instruction set it is limited to, if it is."""
    names = _lines("model name")
    name = names[0] if names else platform.processor() or platform.machine()
    return name if cpu_flags() == _all_flags() else f"{name} limited to {newest()}"


def have_bf16() -> bool:
    """Whether the CPU multiplies bf16 in hardware."""
    return bool(cpu_flags() & BF16)


def _limits() -> Iterator[str]:
    aten = os.environ.get("ATEN_CPU_CAPABILITY", "")
    onednn = os.environ.get("ONEDNN_MAX_CPU_ISA", os.environ.get("DNNL_MAX_CPU_ISA", ""))
    yield from (ATEN[aten],) if aten in ATEN else ()
    yield from (ONEDNN[onednn.lower()],) if onednn.lower() in ONEDNN else ()


def _all_flags() -> frozenset[str]:
    return frozenset(next((line.split() for line in _lines("flags")), ()))


@cache
def _lines(key: str) -> list[str]:
    """All values of a key in /proc/cpuinfo; empty on other systems."""
    with suppress(OSError):
        pairs = (line.partition(":") for line in CPUINFO.read_text().splitlines())
        return [value.strip() for name, _, value in pairs if name.strip() == key]
    return []
