"""report.json: what a run asked for, what it got, and how long everything took."""

from __future__ import annotations

import json
import platform
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, get_args

import numpy as np

from gas_rt.core import BackendReport, Frame, Level
from gas_rt.engine.machine import available_cpus
from gas_rt.files import atomic_write
from gas_rt.kernels import kernel_isa
from gas_rt.stream.pacing import DeadlineMeter, period_of

__all__ = [
    "SCHEMA_VERSION",
    "RunRecorder",
    "environment",
    "package_versions",
    "report",
    "summary",
    "write_report",
]

SCHEMA_VERSION = 1
PERCENTILES = (50, 90, 95, 99)
PACKAGES = ("numpy", "openvino", "safetensors", "av", "pillow")


@dataclass
class RunRecorder:
    """Collects the frames of one run as they are polled.

    `fps` is the rate frames were wanted at: a deadline is 1/fps after the frame before.
    """

    name: str
    policy: str
    task: str
    steps: int
    fps: float
    backend: BackendReport
    first_push_ns: int | None = None
    first_poll_ns: int | None = None
    ages_ms: list[float] = field(default_factory=list)
    ready_ns: list[int] = field(default_factory=list)
    stages_ms: dict[str, list[float]] = field(default_factory=dict)
    waits_ms: dict[str, list[float]] = field(default_factory=dict)
    levels: Counter[str] = field(default_factory=Counter)
    size: tuple[int, int] = (0, 0)  # width, height

    def pushed(self, now_ns: int) -> None:
        """Note a push; the first one starts the run."""
        if self.first_push_ns is None:
            self.first_push_ns = now_ns

    def polled(self, frame: Frame, now_ns: int) -> None:
        """Note a frame that was handed out."""
        if self.first_poll_ns is None:
            self.first_poll_ns = now_ns
        self.ages_ms.append(frame.timings.age_ms)
        self.ready_ns.append(frame.timings.ready_ns)
        timings = frame.timings
        stages_ms, waits_ms = timings.stages_ms, timings.waits_ms
        if frame.level == "held":  # all else is of the frame that it repeats, and counted there
            stages_ms, waits_ms = {}, {"held": waits_ms["held"]}
        for stage, value in stages_ms.items():
            self.stages_ms.setdefault(stage, []).append(value)
        for wait, value in waits_ms.items():
            self.waits_ms.setdefault(wait, []).append(value)
        self.levels[frame.level] += 1
        self.size = (frame.rgb.shape[1], frame.rgb.shape[0])

    def row(self, *, dropped: int) -> dict[str, Any]:
        """The run as an entry of the report's ``runs``."""
        meter = DeadlineMeter(period_of(self.fps))
        for ready_ns in self.ready_ns:
            meter.frame(ready_ns)
        span_s = (self.ready_ns[-1] - self.ready_ns[0]) / 1e9 if len(self.ready_ns) > 1 else 0.0
        first_ms = None
        if self.first_push_ns is not None and self.first_poll_ns is not None:
            first_ms = round((self.first_poll_ns - self.first_push_ns) / 1e6, 3)
        return {
            "name": self.name,
            "policy": self.policy,
            "task": self.task,
            "steps": self.steps,
            "resolution": list(self.size),
            "frames": len(self.ready_ns),
            "fps": round((len(self.ready_ns) - 1) / span_s, 3) if span_s > 0 else None,
            "first_frame_ms": first_ms,
            "age_ms": summary(self.ages_ms),
            "stages_ms": {stage: summary(values) for stage, values in self.stages_ms.items()},
            "waits_ms": {wait: summary(values) for wait, values in self.waits_ms.items()},
            "deadline_miss": round(meter.miss_ratio, 4),
            "dropped": dropped,
            "level": {level: self.levels[level] for level in get_args(Level)},
            "backend": asdict(self.backend),
        }


def report(command: Sequence[str], runs: Sequence[dict[str, Any]], **extra: Any) -> dict[str, Any]:
    """The report as one JSON document."""
    return {
        "schema_version": SCHEMA_VERSION,
        "command": list(command),
        "environment": environment(),
        "runs": list(runs),
        **extra,
    }


def write_report(path: str | Path, document: dict[str, Any]) -> None:
    """Write a report, replacing the file in one step."""
    with atomic_write(path) as stream:
        stream.write((json.dumps(document, indent=2) + "\n").encode())


def package_versions(packages: Iterable[str]) -> dict[str, str | None]:
    """What is installed of each; None where it is not."""
    versions: dict[str, str | None] = {}
    for package in packages:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    return versions


def environment() -> dict[str, Any]:
    """What the figures of a report depend on."""
    from gas_rt import __version__

    versions = {"gas-rt": __version__, **package_versions(PACKAGES)}
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": cpu_name(),
        "cpus": available_cpus(),
        "kernel_isa": kernel_isa(),
        "packages": versions,
    }


def cpu_name() -> str:
    """The processor's name, as the system gives it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def summary(values: Sequence[float]) -> dict[str, float | None]:
    """The percentiles a report gives, and the maximum; None of no values."""
    if not values:
        return {**{f"p{p}": None for p in PERCENTILES}, "max": None}
    array = np.asarray(values, np.float64)
    found = {f"p{p}": round(float(np.percentile(array, p)), 3) for p in PERCENTILES}
    return {**found, "max": round(float(array.max()), 3)}
