"""What else the machine did while we measured, and whether that was too much to count."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = [
    "LIMITS",
    "CpuTimes",
    "Limits",
    "Load",
    "load_between",
    "parse_cpu_times",
    "read_cpu_times",
    "spread",
]


@dataclass(frozen=True)
class Limits:
    """Above any of these a run is too noisy to count.

    Attributes
    ----------
    other_share : of all processor time that other processes took. A tenth of two cores is the
        fifth of one, which moves a rate by as much as the tolerance of a comparison.
    steal_share : that the host gave to other machines.
    spread : between the rounds of one run, of its rate when saturated or its median age when live:
        (highest − lowest) / median.
    """

    other_share: float = 0.05
    steal_share: float = 0.02
    spread: float = 0.10


LIMITS = Limits()


@dataclass(frozen=True)
class CpuTimes:
    """Seconds since boot, summed over processors; `busy_s` contains no stolen time."""

    busy_s: float
    idle_s: float
    steal_s: float


@dataclass(frozen=True)
class Load:
    """Shares of the processors' time; None where the system does not tell."""

    other_share: float | None
    steal_share: float | None

    def as_dict(self) -> dict[str, Any]:
        """For the report."""
        shares = {"other_share": self.other_share, "steal_share": self.steal_share}
        return {name: None if s is None else round(s, 4) for name, s in shares.items()}

    def problems(self, limits: Limits) -> list[str]:
        """What is above its limit, in words."""
        found = []
        for what, share, limit in (
            ("other processes took", self.other_share, limits.other_share),
            ("the host took", self.steal_share, limits.steal_share),
        ):
            if share is not None and share > limit:
                found.append(f"{what} {share:.1%} of the processors, limit {limit:.0%}")
        return found


def parse_cpu_times(text: str, *, cpus: Collection[int], ticks_per_s: int) -> CpuTimes | None:
    """The lines of `cpus` in /proc/stat, added up; None if it has none of them.

    Their fields are user, nice, system, idle, iowait, irq, softirq, steal; guests' time, which
    follows, is contained in the first two.
    """
    names = {f"cpu{number}" for number in cpus}
    rows = [
        [int(word) for word in (*words[1:9], *"00000000")][:8]
        for words in map(str.split, text.splitlines())
        if len(words) >= 5 and words[0] in names and all(w.isdigit() for w in words[1:])
    ]
    if not rows:
        return None
    ticks = (sum(column) / ticks_per_s for column in zip(*rows, strict=True))
    user, nice, system, idle, waiting, irq, softirq, steal = ticks
    return CpuTimes(user + nice + system + irq + softirq, idle + waiting, steal)


def read_cpu_times() -> CpuTimes | None:
    """The times now of the processors this process may run on; None where nothing tells."""
    try:
        text = Path("/proc/stat").read_text()
    except OSError:
        return None
    cpus = os.sched_getaffinity(0)  # where there is a /proc/stat, there is this
    return parse_cpu_times(text, cpus=cpus, ticks_per_s=os.sysconf("SC_CLK_TCK"))


def load_between(before: CpuTimes | None, after: CpuTimes | None, *, own_cpu_s: float) -> Load:
    """What was not ours between two readings; `own_cpu_s` is what our process used."""
    if before is None or after is None:
        return Load(None, None)
    busy = after.busy_s - before.busy_s
    steal = after.steal_s - before.steal_s
    total = busy + steal + after.idle_s - before.idle_s
    if total <= 0:
        return Load(None, None)
    # The kernel counts whole ticks, so ours can come out above what all of us used.
    return Load(max(0.0, busy - own_cpu_s) / total, max(0.0, steal) / total)


def spread(values: Sequence[float]) -> float | None:
    """(highest − lowest) / median; None for fewer than two values or a median of 0."""
    if len(values) < 2:
        return None
    ordered = sorted(values)
    half = len(ordered) // 2
    median = ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2
    return (ordered[-1] - ordered[0]) / median if median else None
