"""Streams in trouble: too many poses, a consumer that stops, an engine that slows down."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from benchmarks.reporting import NEVER, row, tell
from benchmarks.streaming.setting import Setting
from gas_rt.bench.arrivals import arrival_times_ns
from gas_rt.bench.drive import Sample, drive_live
from gas_rt.bench.viewer import watch
from gas_rt.core import OnLate
from gas_rt.stream.report import summary
from gas_rt.stream.session import Session

__all__ = ["overload", "slow_engine", "stopped_consumer"]

OVERLOAD = 3  # times the rate that is sustained
SLOWED = 4.0
BUFFER_PERIODS = 2.5  # of the viewer: 100 ms at 25 fps
RECOVERY_S = 15.0  # until frames are made in full again
FULL_AGAIN = 0.9  # of the frames from then on


def overload(setting: Setting) -> list[dict[str, Any]]:
    """Poses at three times the sustained rate: age stays bounded, and every pose is accounted for.

    Ages are judged at the 99th percentile, since a bound that the operating system's worst moment
    could not break would be no bound.
    """
    rows = []
    for on_late in ("freshest", "paced", "lossless"):
        tell(f"  {on_late}: poses at {OVERLOAD} × {setting.sustained_fps:.1f} fps")
        rows += _overload(setting, on_late)
    return rows


def _overload(setting: Setting, on_late: OnLate) -> list[dict[str, Any]]:
    arrivals = arrival_times_ns(
        setting.times.overload_s, fps=OVERLOAD * setting.sustained_fps
    ).tolist()
    with setting.session(on_late=on_late, fps=setting.fps) as session:
        found = drive_live(session, setting.requests(), arrivals, warm_up=0, clocks=setting.clocks)
        out = _distinct(found.samples)
        # While poses are still in flight, by the session's own count of those,
        flying = found.accepted - out - found.in_flight
        session.finish()
        last = {frame.index for frame in session if frame.level != "held"}
        # and at the end, when nothing can be in flight.
        ended = found.accepted - out - len(last)
        dropped_flying, dropped_ended = found.dropped, session.stats().dropped
    exact = dropped_flying == flying and dropped_ended == ended
    settled = found.samples[setting.warm_up :] or found.samples
    rows = [
        row(
            f"overload_{on_late}_dropped",
            dropped_ended,
            ended,
            "poses, against in − out",
            required=1.0,
            more_is_better=True,
            correct=exact,
            in_flight={"dropped": dropped_flying, "in − out − in flight": flying},
            age_ms=summary([s.age_ms for s in _new(settled)]),
            accepted=found.accepted,
            refused=found.refused,
            frames=len(found.samples),
            sustained_fps=round(setting.sustained_fps, 3),
            dropped_by_reason=found.dropped_by_reason,
            levels=dict(Counter(s.level for s in found.samples)),
        )
    ]
    if session.age_bound_ms is not None:
        rows.append(_age(setting, session, f"overload_{on_late}_age", settled, at="p99"))
    if on_late == "lossless":
        rows.append(
            row(
                "overload_lossless_refused",
                found.refused if not dropped_ended else 0,
                1,
                "poses",
                required=1.0,
                more_is_better=True,
                judged=not setting.quick,
            )
        )
    return rows


def _age(
    setting: Setting, session: Session, name: str, samples: Sequence[Sample], *, at: str
) -> dict[str, Any]:
    """A percentile of the ages against what docs/streaming.md promises of the session."""
    new, promised_ms = _new(samples), session.age_bound_ms
    assert promised_ms is not None, "the session has a ladder"
    ages = summary([s.age_ms for s in new])
    first = summary([sum(s.stages_ms.get(n, 0.0) for n in setting.first_stage) for s in new])
    age_ms = ages[at] or NEVER
    return row(
        name,
        age_ms,
        promised_ms + (first[at] or 0.0),
        f"ms, {at}",
        required=1.0,
        more_is_better=False,
        judged=not setting.quick,
        periods=round(age_ms * setting.fps / 1e3, 2),
        promised_ms=promised_ms,
        first_stage_ms=first,
        age_ms=ages,
    )


def _new(samples: Sequence[Sample]) -> list[Sample]:
    """All but held frames, which show a pose once more; the levels count those."""
    return [s for s in samples if s.level != "held"]


def _distinct(samples: Sequence[Sample]) -> int:
    """Poses that came out."""
    return len({s.index for s in _new(samples)})


def stopped_consumer(setting: Setting) -> list[dict[str, Any]]:
    """Nobody polls for a while: that costs the frames of that while, and nothing after it."""
    times, fps = setting.times, setting.fps
    stop_ns = round(times.calm_s * 1e9), round((times.calm_s + times.trouble_s) * 1e9)
    arrivals = arrival_times_ns(times.calm_s + times.trouble_s + times.after_s, fps=fps).tolist()
    with setting.session(on_late="freshest", fps=fps) as session:
        began_ns = setting.clocks.now_ns()
        found = drive_live(
            session,
            setting.requests(),
            arrivals,
            warm_up=setting.warm_up,
            clocks=setting.clocks,
            polls=lambda elapsed_ns: not stop_ns[0] <= elapsed_ns < stop_ns[1],
        )
    before = [s.age_ms for s in found.samples if s.polled_ns < began_ns + stop_ns[0]]
    # With what was kept during the stop: a frame of it may be old, but not one in twenty.
    after = [s for s in found.samples if s.polled_ns >= began_ns + stop_ns[1]]
    return [
        _age(setting, session, "stopped_consumer_age_after", after, at="p95"),
        row(
            "stopped_consumer_frames_lost",
            found.dropped,
            # Its own, and the one that was being made at either end.
            times.trouble_s * fps + 2,
            "frames",
            required=1.0,
            more_is_better=False,
            judged=not setting.quick,
            before_ms=summary(before),
            dropped_by_reason=found.dropped_by_reason,
        ),
    ]


def slow_engine(setting: Setting) -> list[dict[str, Any]]:
    """Every graph takes four times as long for a while: the ladder answers, and nothing stalls."""
    times, fps, brake = setting.times, setting.fps, setting.brake
    arrivals = arrival_times_ns(times.calm_s + times.trouble_s + times.after_s, fps=fps).tolist()
    with setting.session(on_late="paced", fps=fps) as session:
        began_ns = setting.clocks.now_ns()
        brake.factor = SLOWED
        brake.from_ns = began_ns + round(times.calm_s * 1e9)
        brake.until_ns = brake.from_ns + round(times.trouble_s * 1e9)
        try:
            found = drive_live(
                session,
                setting.requests(),
                arrivals,
                warm_up=setting.warm_up,
                clocks=setting.clocks,
            )
        finally:
            brake.from_ns = brake.until_ns = 0
    slow_ns = (round((times.calm_s + k * times.trouble_s) * 1e9) + began_ns for k in (0, 1))
    phases = _phases(found.samples, *slow_ns)
    levels = {name: dict(Counter(s.level for s in phase)) for name, phase in phases.items()}
    less = sum(n for level, n in levels["slow"].items() if level != "full")
    seen = watch(
        [s.polled_ns for s in found.samples], fps=fps, buffer_ms=BUFFER_PERIODS * 1e3 / fps
    )
    ages = {name: summary([s.age_ms for s in phase]) for name, phase in phases.items()}
    further = {
        "fps": round(fps, 3),
        "levels": levels,
        "viewer": seen.as_dict(),
        "age_ms": ages,
    }
    back_s = full_again_s(phases["after"])
    return [
        row(
            "slow_engine_steps_down",
            less,
            1,
            "frames by less while slow",
            required=1.0,
            more_is_better=True,
            judged=not setting.quick,
            **further,
        ),
        row(
            "slow_engine_full_again",
            NEVER if back_s is None else back_s,
            RECOVERY_S,
            "s until all frames are full",
            required=1.0,
            more_is_better=False,
            judged=not setting.quick,
        ),
        row(
            "slow_engine_stalls",
            seen.stalls,
            0,
            "stalls",
            required=1.0,
            more_is_better=False,
            judged=not setting.quick,
        ),
    ]


def _phases(samples: Sequence[Sample], slow_ns: int, after_ns: int) -> dict[str, list[Sample]]:
    """Samples before, during and after the trouble."""
    return {
        "calm": [s for s in samples if s.polled_ns < slow_ns],
        "slow": [s for s in samples if slow_ns <= s.polled_ns < after_ns],
        "after": [s for s in samples if s.polled_ns >= after_ns],
    }


def full_again_s(after: Sequence[Sample]) -> float | None:
    """From the first of the samples to where they are in full until the end; None if never.

    "In full" is nine of ten frames: a ladder may try the rung above and take it back once.
    """
    less = 0
    found = None
    for k in range(len(after) - 1, -1, -1):
        less += after[k].level != "full"
        if less > (1 - FULL_AGAIN) * (len(after) - k):
            break
        if after[k].level == "full":
            found = k
    return None if found is None else (after[found].polled_ns - after[0].polled_ns) / 1e9
