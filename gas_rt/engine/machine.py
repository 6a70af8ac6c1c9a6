"""What a plan is tied to on the machine's side: processor, instructions, drivers, system."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path

__all__ = ["available_cpus", "cpu_machine", "gpu_machine", "nvidia_driver", "system_name"]

CPUINFO = Path("/proc/cpuinfo")
NVIDIA_VERSION = Path("/proc/driver/nvidia/version")
# What code generators look at. The other flags of /proc/cpuinfo come and go with kernel updates.
ISA = re.compile(
    r"(sse|ssse|avx|amx|fma|f16c|bmi|vnni|vaes|vpcl|gfni|asimd|sve|sme(?!p)|bf16|i8mm|fp16)"
)


def system_name() -> str:
    """System and architecture, without the kernel's release: no plan depends on that."""
    return f"{platform.system()} {platform.machine()}"


def available_cpus() -> int:
    """Processors this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_machine() -> dict[str, str]:
    """Fields ``os``, ``cpu`` and ``isa`` of a plan for the processor."""
    facts = _cpuinfo()
    # A virtual machine may show a family's name for all its members, so the model is added.
    parts = [facts.get(name, "") for name in ("model name", "cpu family", "model", "stepping")]
    isa = facts.get("flags") or facts.get("Features") or ""
    return {
        "os": system_name(),
        "cpu": " / ".join(p for p in parts if p) or platform.processor() or platform.machine(),
        "isa": " ".join(sorted(f for f in isa.split() if ISA.match(f))) or platform.machine(),
    }


def gpu_machine(*, gpu: str, sm: str, cuda: str, tensorrt: str) -> dict[str, str]:
    """Fields of a TensorRT plan: its library knows GPU, SM, CUDA and its own version."""
    return {
        "os": system_name(),
        "gpu": gpu,
        "sm": sm,
        "cuda": cuda,
        "tensorrt": tensorrt,
        "driver": nvidia_driver() or "unknown",
    }


def nvidia_driver() -> str:
    """The NVIDIA driver's full version, ``580.65.06``; empty where there is none."""
    try:
        text = NVIDIA_VERSION.read_text(errors="replace")
    except OSError:
        return ""
    found = re.search(r"Module\s.*?\b(\d+\.\d+(?:\.\d+)*)\b", text)
    return found.group(1) if found else ""


def _cpuinfo() -> dict[str, str]:
    """The first processor's lines of /proc/cpuinfo; empty where there is no such file."""
    try:
        first = CPUINFO.read_text(errors="replace").split("\n\n")[0]
    except OSError:
        return {}
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}
