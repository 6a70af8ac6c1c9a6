"""A cold start, split: what a process pays between its beginning and its first frame."""

from __future__ import annotations

import itertools
import resource
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["PHASES", "StartTimes", "peak_rss_mib", "start_row"]

# In order; each ends where the next begins, so that they add up to the total.
PHASES = ("interpreter", "import", "load", "compile", "first_frame")


@dataclass(frozen=True)
class StartTimes:
    """When each phase ended, on the clock of ``time.monotonic_ns``.

    Attributes
    ----------
    spawned_ns : the parent asked for the process.
    began_ns : its first line of Python ran.
    imported_ns : gas_rt and its libraries were there.
    loaded_ns : the bundle was verified and the backend open.
    opened_ns : the session's graphs were compiled or taken from the plan store, and had run once.
    framed_ns : the first frame was polled.
    """

    spawned_ns: int
    began_ns: int
    imported_ns: int
    loaded_ns: int
    opened_ns: int
    framed_ns: int

    def phases_ms(self) -> dict[str, float]:
        """Milliseconds of each phase."""
        marks = (
            self.spawned_ns,
            self.began_ns,
            self.imported_ns,
            self.loaded_ns,
            self.opened_ns,
            self.framed_ns,
        )
        spans = itertools.pairwise(marks)
        return {
            f"{phase}_ms": round((end - begin) / 1e6, 3)
            for phase, (begin, end) in zip(PHASES, spans, strict=True)
        }


def start_row(name: str, times: StartTimes, extra: Mapping[str, Any]) -> dict[str, Any]:
    """One entry of the report's ``cold_start``."""
    phases = times.phases_ms()
    return {"name": name, **phases, "total_ms": round(sum(phases.values()), 3), **extra}


def peak_rss_mib() -> float:
    """The most memory this process has had resident.

    Linux counts what the parent had before ``exec`` into ``ru_maxrss``, so its own figure of the
    process's memory comes first.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        peak_kib = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak_kib / 1024, 1)
