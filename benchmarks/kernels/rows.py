"""A row of the table: what was measured, what was asked for, and whether it holds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from benchmarks.kernels.timing import Timing
from benchmarks.reporting import tell

__all__ = ["Limit", "Row", "Skipped", "measured"]

S = TypeVar("S")


class Skipped(Exception):  # noqa: N818 - no error: the row's competitor is not installed
    """A row cannot run here; says why."""


@dataclass(frozen=True)
class Limit:
    """A value and the bound it has to keep."""

    what: str
    value: float
    bound: float
    at_least: bool = True

    @property
    def ok(self) -> bool:
        """Whether it does; NaN does not."""
        return self.value >= self.bound if self.at_least else self.value <= self.bound

    def __str__(self) -> str:
        return f"{self.what} {self.value:.4g} ({'≥' if self.at_least else '≤'} {self.bound:g})"

    def as_dict(self) -> dict[str, Any]:
        """For the report."""
        sense = "at least" if self.at_least else "at most"
        return {"what": self.what, "value": self.value, sense: self.bound, "ok": self.ok}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One kernel against one competitor.

    Attributes
    ----------
    ours, peer : durations; a row about quality has none and says its figure in `speed`.
    speed : what the issue asks for; all of it, or with `any_of` one.
    correct : what has to hold for the comparison to mean anything; judged at any size.
    peak : achieved rates as shares of the machine's measured peaks.
    details : further figures.
    """

    name: str
    against: str
    threads: int
    speed: list[Limit]
    correct: list[Limit] = field(default_factory=list)
    ours: Timing | None = None
    peer: Timing | None = None
    peak: Mapping[str, float] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)
    any_of: bool = False

    @property
    def ratio(self) -> float | None:
        """How many times faster than the peer."""
        if self.ours is None or self.peer is None:
            return None
        return self.peer.p50_ms / self.ours.p50_ms

    def ok(self, *, quick: bool) -> bool:
        """Whether it passes; at quick sizes speed says nothing."""
        fast = [limit.ok for limit in self.speed]
        enough = any(fast) if self.any_of else all(fast)
        return all(limit.ok for limit in self.correct) and (quick or enough)

    def as_dict(self, *, quick: bool) -> dict[str, Any]:
        """The row as benchmarks print it, and what is particular to kernels."""
        first = self.speed[0]
        ours = first.value if self.ours is None else round(self.ours.p50_ms, 4)
        return {
            "name": self.name,
            "against": self.against,
            "threads": self.threads,
            "ours": ours,
            "peer": None if self.peer is None else round(self.peer.p50_ms, 4),
            "unit": first.what if self.ours is None else "ms",
            "ratio": None if self.ratio is None else round(self.ratio, 3),
            "required": first.bound,
            "ok": self.ok(quick=quick),
            "verdict": self.verdict(quick=quick),
            "speed": [limit.as_dict() for limit in self.speed],
            "one_is_enough": self.any_of,
            "correct": [limit.as_dict() for limit in self.correct],
            "ours_ms": None if self.ours is None else self.ours.as_dict(),
            "peer_ms": None if self.peer is None else self.peer.as_dict(),
            "peak": dict(self.peak),
            "details": dict(self.details),
        }

    def verdict(self, *, quick: bool) -> str:
        """In a word."""
        if quick:
            return "correct" if self.ok(quick=True) else "wrong"
        return "passed" if self.ok(quick=False) else "missed"


def measured(
    rows: Mapping[str, Callable[[S], Row]], names: Iterable[str], setting: S, *, quick: bool
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """The named rows for the report, and why others of them were skipped."""
    found: list[dict[str, Any]] = []
    skipped: dict[str, str] = {}
    for name in names:
        tell(name)
        try:
            found.append(rows[name](setting).as_dict(quick=quick))
        except Skipped as reason:
            skipped[name] = str(reason)
            tell(f"{name} skipped: {reason}")
    return found, skipped
