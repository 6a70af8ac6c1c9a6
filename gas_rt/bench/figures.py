"""Figures of a run from its recordings: pure functions of times that were noted."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, get_args

import numpy as np

from gas_rt.bench.drive import Recording, Sample
from gas_rt.bench.load import Limits, Load, spread
from gas_rt.bench.scenario import Case, Kind, Plan
from gas_rt.bench.viewer import watch
from gas_rt.core import BackendReport, Level
from gas_rt.stream.report import summary

__all__ = [
    "SLACK_MS",
    "Deadlines",
    "Round",
    "deadlines",
    "described",
    "gaps_ms",
    "run_row",
    "stage_figures",
]

# By so much a frame may come later than a period after the one before. At the session's own rate
# every frame is due exactly then, so without it, half of all frames miss by the microseconds that
# a thread takes to wake up. A tenth of a period at 25 fps is below what a display can show.
SLACK_MS = 4.0


@dataclass(frozen=True)
class Round:
    """One turn of a case: what was recorded, and what else the machine did meanwhile."""

    recording: Recording
    load: Load


@dataclass(frozen=True)
class Deadlines:
    """Shares of frames that came later than one period after the frame before.

    `missed` grants `SLACK_MS`, `strict` nothing.
    """

    missed: float
    strict: float


def gaps_ms(samples: Sequence[Sample]) -> list[float]:
    """Times between frames."""
    return [float(gap) for gap in np.diff([s.polled_ns for s in samples]) / 1e6]


def deadlines(gaps: Sequence[float], *, fps: float) -> Deadlines | None:
    """Of the frames that end `gaps` (ms); None of none. The first frame has no deadline."""
    if not gaps:
        return None
    period_ms = 1e3 / fps
    missed = sum(gap > period_ms + SLACK_MS for gap in gaps)
    strict = sum(gap > period_ms for gap in gaps)
    return Deadlines(missed / len(gaps), strict / len(gaps))


def stage_figures(samples: Sequence[Sample]) -> dict[str, Any]:
    """Times per stage, and their mean sum per frame.

    Every time is of one frame: what a call does for several is shared among them, so that times
    add up to what was worked and nothing counts twice. Waiting is no stage, and a ``held`` frame
    has the times of the one that it repeats.
    """
    by_stage: dict[str, list[float]] = {}
    for sample in (s for s in samples if s.level != "held"):
        for stage, value in sample.stages_ms.items():
            by_stage.setdefault(stage, []).append(value)
    work_ms = sum(sum(values) for values in by_stage.values())
    return {
        "stages_ms": {stage: summary(values) for stage, values in by_stage.items()},
        "stages_sum_ms": round(work_ms / len(samples), 3) if samples else None,
    }


def described(case: Case, kind: Kind, *, task: str, backend: BackendReport) -> dict[str, Any]:
    """Of an entry of the report's ``runs``, what is known before it is measured."""
    return {
        "name": f"{kind} {case.name}",
        "kind": kind,
        "policy": case.policy,
        "task": task,
        "steps": case.steps,
        "resolution": [case.side_px, case.side_px],
        "backend": asdict(backend),
    }


def run_row(
    case: Case,
    kind: Kind,
    rounds: Sequence[Round],
    *,
    plan: Plan,
    task: str,
    backend: BackendReport,
    limits: Limits,
) -> dict[str, Any]:
    """One entry of the report's ``runs``: all rounds of a case together."""
    recordings = [r.recording for r in rounds]
    samples = [s for r in recordings for s in r.samples]
    # Between two rounds lie other cases, so gaps and viewers end with a round.
    gaps = [gap for r in recordings for gap in gaps_ms(r.samples)]
    late = deadlines(gaps, fps=plan.fps)
    levels = sum((r.levels for r in recordings), start=recordings[0].levels.__class__())
    firsts = _known(r.first_frame_ms for r in recordings)
    own = "field" if case.policy == "field" else "full"
    row = {
        **described(case, kind, task=task, backend=backend),
        "frames": len(samples),
        "fps": _median(_known(r.fps for r in recordings)),
        "first_frame_ms": _median(firsts),
        "first_frame_ms_max": round(max(firsts), 3) if firsts else None,
        "age_ms": summary([s.age_ms for s in samples]),
        "interframe_ms": summary(gaps),
        "jitter_ms": round(float(np.std(gaps)), 3) if gaps else None,
        **stage_figures(samples),
        "deadline_miss": None if late is None else round(late.missed, 4),
        "deadline_miss_strict": None if late is None else round(late.strict, 4),
        "deadline_slack_ms": SLACK_MS,
        "core_s_per_frame": _median(_known(r.core_s_per_frame for r in recordings), digits=6),
        "dropped": sum(r.dropped for r in recordings),
        "refused": sum(r.refused for r in recordings),
        "level": {level: levels[level] for level in get_args(Level)},
        "full_share": round(levels[own] / len(samples), 4) if samples else None,
        "rounds": [_round(r) for r in rounds],
        "noise": _noise(rounds, kind, limits),
    }
    if kind == "live":
        row["viewer"] = _viewers([r for r in recordings if r.samples], plan)
        row["push_late_ms"] = summary([ms for r in recordings for ms in r.push_late_ms])
    return row


def _viewers(recordings: Sequence[Recording], plan: Plan) -> dict[str, Any] | None:
    """One viewer per round, added up; None if there was nothing to see, which is no smooth play."""
    if not recordings:
        return None
    seen = [
        watch([s.polled_ns for s in r.samples], fps=plan.fps, buffer_ms=plan.buffer_ms)
        for r in recordings
    ]
    return {
        "buffer_ms": plan.buffer_ms,
        "frames": sum(v.frames for v in seen),
        "stalls": sum(v.stalls for v in seen),
        "stall_ms": round(sum(v.stall_ms for v in seen), 3),
        "longest_stall_ms": round(max(v.longest_stall_ms for v in seen), 3),
    }


def _steadiness(recording: Recording, kind: Kind) -> float | None:
    """What should be the same in every round: the rate, or the age where arrivals set the rate."""
    if kind == "saturated":
        return recording.fps
    return summary([s.age_ms for s in recording.samples])["p50"]


def _round(entry: Round) -> dict[str, Any]:
    recording = entry.recording
    ages = summary([s.age_ms for s in recording.samples])
    return {
        "frames": len(recording.samples),
        "warm_up": recording.warm_up,
        "fps": _median(_known([recording.fps])),
        "first_frame_ms": _median(_known([recording.first_frame_ms])),
        "age_p50_ms": ages["p50"],
        "core_s_per_frame": _median(_known([recording.core_s_per_frame]), digits=6),
        **entry.load.as_dict(),
    }


def _noise(rounds: Sequence[Round], kind: Kind, limits: Limits) -> dict[str, Any]:
    """Whether the run counts. The worst round decides: a median hides it, a p95 does not."""
    found = spread(_known(_steadiness(r.recording, kind) for r in rounds))
    problems = [
        f"round {k}: {problem}"
        for k, entry in enumerate(rounds, start=1)
        for problem in entry.load.problems(limits)
    ]
    if found is not None and found > limits.spread:
        what = "rates" if kind == "saturated" else "median ages"
        problems.append(f"the rounds' {what} differ by {found:.1%}, limit {limits.spread:.0%}")
    if found is None:
        problems.append("fewer than two rounds gave figures, so their spread is unknown")
    return {"spread": None if found is None else round(found, 4), "problems": problems}


def _known(values: Iterable[float | None]) -> list[float]:
    return [v for v in values if v is not None]


def _median(values: Sequence[float], *, digits: int = 3) -> float | None:
    return round(statistics.median(values), digits) if values else None
