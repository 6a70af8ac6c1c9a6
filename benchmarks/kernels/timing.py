"""Competitors in turns: what disturbs one of them disturbs all."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["Call", "Timing", "interleave"]

# A pool that has just been used may spin for some milliseconds, on the core the next one needs.
SETTLE_S = 0.01


@dataclass(frozen=True)
class Call:
    """A competitor: what is timed, how often in each round, and how often before that untimed."""

    run: Callable[[], object]
    per_round: int = 1
    warm_up: int = 1


@dataclass(frozen=True)
class Timing:
    """Durations of one competitor's calls."""

    p50_ms: float
    p95_ms: float
    runs: int
    warm_up: int

    def as_dict(self) -> dict[str, Any]:
        """For the report."""
        return {
            "p50": round(self.p50_ms, 4),
            "p95": round(self.p95_ms, 4),
            "runs": self.runs,
            "warm_up": self.warm_up,
        }


def interleave(calls: Mapping[str, Call], *, rounds: int) -> dict[str, Timing]:
    """Each competitor warmed up, then all of them in turns, `rounds` times."""
    for call in calls.values():
        for _ in range(call.warm_up):
            call.run()
    taken_ns: dict[str, list[int]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            time.sleep(SETTLE_S)
            for _ in range(call.per_round):
                start = time.perf_counter_ns()
                call.run()
                taken_ns[name].append(time.perf_counter_ns() - start)
    return {name: _timing(taken_ns[name], call.warm_up) for name, call in calls.items()}


def _timing(taken_ns: list[int], warm_up: int) -> Timing:
    p50, p95 = (float(np.percentile(taken_ns, p)) / 1e6 for p in (50, 95))
    return Timing(p50, p95, len(taken_ns), warm_up)
