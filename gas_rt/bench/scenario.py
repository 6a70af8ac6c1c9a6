"""What is measured, and what the project promises of it: every threshold is here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

__all__ = [
    "PROMISED",
    "PROMISES",
    "Case",
    "Kind",
    "Plan",
    "Promise",
    "Verdict",
    "figure",
    "judge",
    "promised_lines",
]

# saturated: as fast as it goes, back-pressure holds the source. live: the source keeps its own
# pace, whatever the session does, and the session is `paced`.
Kind = Literal["saturated", "live"]
Status = Literal["passed", "missed", "too noisy", "not measured"]
Sense = Literal["at least", "at most", "below"]


@dataclass(frozen=True)
class Case:
    """One combination of what is varied; `backend` as asked for, `steps` 0 for the field."""

    policy: str
    steps: int
    side_px: int
    backend: str

    @property
    def name(self) -> str:
        """For tables."""
        steps = f" {self.steps} steps" if self.steps else ""
        return f"{self.policy}{steps} {self.side_px} px {self.backend}"


@dataclass(frozen=True)
class Plan:
    """How the cases are measured.

    Attributes
    ----------
    fps : rate of the live arrivals, and of the session's deadlines.
    seconds : of measuring per case and kind, warm-up not counted, shared by the rounds.
    rounds : in which all cases take turns.
    jitter_ms : standard deviation of the arrivals around their times.
    buffer_ms : that the viewer waits after its first frame before it plays.
    """

    cases: tuple[Case, ...]
    fps: float = 25.0
    seconds: float = 20.0
    rounds: int = 4
    jitter_ms: float = 0.0
    seed: int = 0
    buffer_ms: float = 100.0

    @property
    def round_s(self) -> float:
        """Seconds of measuring in one round."""
        return self.seconds / self.rounds

    def settings(self) -> dict[str, Any]:
        """For the report: what two runs must share to be comparable."""
        return {
            "fps": self.fps,
            "seconds": self.seconds,
            "rounds": self.rounds,
            "jitter_ms": self.jitter_ms,
            "seed": self.seed,
            "buffer_ms": self.buffer_ms,
        }


@dataclass(frozen=True)
class Promise:
    """A bound on one figure of the promised case; `path` leads to it in a run of `kind`."""

    name: str
    kind: Kind
    path: tuple[str, ...]
    sense: Sense
    bound: float
    unit: str

    def kept(self, value: float) -> bool:
        """Whether `value` keeps it; NaN does not."""
        if self.sense == "at least":
            return value >= self.bound
        return value <= self.bound if self.sense == "at most" else value < self.bound


# The case the promises are about: the live profile of the bundled model on two cores.
PROMISED = {"policy": "diagonal", "steps": 4, "resolution": [128, 128]}
PROMISED_RATE_FPS = 25.0
PROMISED_BUFFER_MS = 100.0
PROMISES = (
    Promise("steady rate", "saturated", ("fps",), "at least", 30.0, "fps"),
    Promise("age of pose, p95", "live", ("age_ms", "p95"), "at most", 250.0, "ms"),
    Promise("deadlines missed", "live", ("deadline_miss",), "below", 0.01, "of all"),
    Promise("stalls of the viewer", "live", ("viewer", "stalls"), "at most", 0, "stalls"),
    Promise("first frame, worst round", "live", ("first_frame_ms_max",), "at most", 600.0, "ms"),
    # Without these, frames of a lower level would keep the others' promises.
    Promise("steady frames in full", "saturated", ("full_share",), "at least", 0.99, "of all"),
    Promise("live frames in full", "live", ("full_share",), "at least", 0.99, "of all"),
)


def promised_lines() -> dict[str, float]:
    """What a chart marks: the promised rate, and the 95th percentile of the age."""
    bounds = {promise.path: promise.bound for promise in PROMISES}
    return {"fps": bounds["fps",], "age_ms": bounds["age_ms", "p95"]}


@dataclass(frozen=True)
class Verdict:
    """What became of one promise in one run; `value` is None where it was not measured."""

    promise: Promise
    run: str
    value: float | None
    status: Status

    def as_dict(self) -> dict[str, Any]:
        """For the report."""
        promise = self.promise
        return {
            "name": promise.name,
            "run": self.run,
            "value": self.value,
            promise.sense.replace(" ", "_"): promise.bound,
            "unit": promise.unit,
            "status": self.status,
        }

    def __str__(self) -> str:
        value = "–" if self.value is None else f"{self.value:.4g}"
        promise = self.promise
        bound = f"{promise.sense} {promise.bound:g} {promise.unit}"
        return f"{promise.name}: {value} ({bound}): {self.status}"


def figure(run: Mapping[str, Any], path: Sequence[str]) -> float | None:
    """The number at `path` in a run of a report; None if there is none."""
    value: Any = run
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value)


def judge(
    runs: Sequence[Mapping[str, Any]], *, plan: Plan, promises: Sequence[Promise]
) -> list[Verdict]:
    """A verdict per promise and run of the promised case; none if no run is of that case.

    A run that was too noisy does not break a promise; how noisy others were does not matter. One
    that is kept all the same is kept: others can take time from a run and give it none.
    """
    if plan.fps != PROMISED_RATE_FPS or plan.buffer_ms != PROMISED_BUFFER_MS or plan.jitter_ms:
        return []
    verdicts = []
    for run in runs:
        if any(run[key] != value for key, value in PROMISED.items()):
            continue
        noisy = bool(run["noise"]["problems"])
        for promise in promises:
            if promise.kind != run["kind"]:
                continue
            value = figure(run, promise.path)
            status: Status = "too noisy" if noisy else "missed"
            if value is None:
                status = "not measured"
            elif promise.kept(value):
                status = "passed"
            verdicts.append(Verdict(promise, str(run["name"]), value, status))
    return verdicts
