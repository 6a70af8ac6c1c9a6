"""Figures by hand, the noise rules, and cases that take turns."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from gas_rt.bench.drive import Recording, Sample
from gas_rt.bench.figures import SLACK_MS, Round, deadlines, run_row, stage_figures
from gas_rt.bench.load import LIMITS, CpuTimes, Load
from gas_rt.bench.rounds import Source, back_and_forth, measure
from gas_rt.bench.scenario import Case, Kind, Plan
from gas_rt.core import BackendReport
from tests.bench.toys import MS, QueueingSession, VirtualTime, request

BACKEND = BackendReport("auto", "toy", "cpu", "fp32")
CASE = Case("diagonal", 4, 128, "auto")
QUIET = Load(0.0, 0.0)


def sample(captured_ms: float, polled_ms: float, level: str = "full", **stages: float) -> Sample:
    cpu_ns = round(polled_ms * MS / 2)
    return Sample(0, round(captured_ms * MS), round(polled_ms * MS), cpu_ns, level, stages)


def recording(*samples: Sample, first_ms: float = 100.0) -> Recording:
    return Recording(
        first_push_ns=0,
        first_poll_ns=round(first_ms * MS),
        samples=list(samples),
        accepted=10,
        dropped=2,
    )


def row(*recordings: Recording, kind: Kind = "live", load: Load = QUIET) -> dict:
    plan = Plan((CASE,), rounds=len(recordings))
    rounds = [Round(r, load) for r in recordings]
    return run_row(CASE, kind, rounds, plan=plan, task="pose", backend=BACKEND, limits=LIMITS)


def test_a_row_has_the_reports_fields_and_the_right_figures() -> None:
    one = recording(*(sample(40 * k, 40 * k + 100) for k in range(5)))
    two = recording(sample(0, 110), sample(40, 250), sample(80, 260), first_ms=300)
    found = row(one, two)
    assert {
        *("name", "policy", "task", "steps", "resolution", "frames", "fps", "first_frame_ms"),
        *("age_ms", "stages_ms", "deadline_miss", "dropped", "level", "backend"),
    } <= set(found)
    assert found["name"] == "live diagonal 4 steps 128 px auto"
    assert found["resolution"] == [128, 128]
    assert (found["frames"], found["dropped"]) == (8, 4)
    assert (found["first_frame_ms"], found["first_frame_ms_max"]) == (200.0, 300.0)
    assert found["age_ms"]["max"] == 210.0
    # Gaps end with a round: four of 40 ms, then 140 and 10.
    assert found["interframe_ms"]["max"] == 140.0
    assert found["interframe_ms"]["p50"] == 40.0
    assert found["deadline_miss"] == round(1 / 6, 4)
    assert found["core_s_per_frame"] == pytest.approx((0.020 + 0.0375) / 2)
    assert found["viewer"] == {
        "buffer_ms": 100.0,
        "frames": 8,
        "stalls": 0,
        "stall_ms": 0.0,
        "longest_stall_ms": 0.0,
    }
    assert found["level"] == {"full": 8, "fewer_steps": 0, "field": 0, "held": 0}
    assert found["full_share"] == 1.0


def test_a_run_without_frames_promises_nothing() -> None:
    found = row(Recording(), Recording())
    assert (found["fps"], found["first_frame_ms"], found["deadline_miss"]) == (None, None, None)
    assert found["viewer"] is None
    assert found["full_share"] is None


def test_deadlines_grant_the_slack_and_no_more() -> None:
    period = 40.0
    gaps = [period, period + 0.01, period + SLACK_MS, period + SLACK_MS + 0.01]
    found = deadlines(gaps, fps=25)
    assert found is not None
    assert (found.missed, found.strict) == (0.25, 0.75)
    assert deadlines([], fps=25) is None


def test_stages_add_up() -> None:
    found = stage_figures([sample(0, 1, denoise=20.0, decode=5.0), sample(0, 1, denoise=30.0)])
    assert found["stages_ms"]["denoise"]["p50"] == 25.0
    assert found["stages_ms"]["decode"]["p50"] == 5.0
    assert found["stages_sum_ms"] == 27.5
    again = [sample(0, k, level, denoise=20.0) for k, level in enumerate(["full", "held", "held"])]
    assert stage_figures(again)["stages_sum_ms"] == pytest.approx(20 / 3, abs=1e-3)
    assert stage_figures([])["stages_sum_ms"] is None


def steady(rate: float) -> Recording:
    return recording(*(sample(1000 / rate * k, 1000 / rate * k + 50) for k in range(20)))


def test_noise_is_the_spread_of_rates_or_the_load_of_a_round() -> None:
    assert row(steady(30), steady(31), kind="saturated")["noise"]["problems"] == []
    (problem,) = row(steady(30), steady(36), kind="saturated")["noise"]["problems"]
    assert problem == "the rounds' rates differ by 18.2%, limit 10%"
    busy = row(steady(30), steady(30), kind="saturated", load=Load(0.2, 0.0))
    assert busy["noise"]["problems"][0].startswith("round 1: other processes took 20.0%")
    assert len(busy["noise"]["problems"]) == 2
    (alone,) = row(steady(30))["noise"]["problems"]
    assert "fewer than two rounds" in alone
    late = recording(*(sample(40 * k, 40 * k + 80) for k in range(20)))
    (ages,) = row(steady(25), late)["noise"]["problems"]
    assert "median ages differ" in ages


def test_poses_go_there_and_back() -> None:
    three = [request() for _ in range(3)]
    found = list(itertools.islice(back_and_forth(three), 9))
    assert [three.index(r) for r in found] == [0, 1, 2, 1, 0, 1, 2, 1, 0]
    one = list(itertools.islice(back_and_forth(three[:1]), 3))
    assert [three.index(r) for r in one] == [0, 0, 0]


def test_cases_take_turns_and_the_order_turns_round() -> None:
    time = VirtualTime()
    cases = (CASE, Case("field", 0, 128, "auto"))
    opened: list[tuple[str, str]] = []
    sessions: list[QueueingSession] = []

    def opener(case: Case) -> Callable[[Kind], QueueingSession]:
        def opens(kind: Kind) -> QueueingSession:
            opened.append((case.policy, kind))
            lossless = kind == "saturated"
            sessions.append(
                QueueingSession(
                    time, service_ms=10, slots=4 if lossless else 1, drop_oldest=not lossless
                )
            )
            return sessions[-1]

        return opens

    plan = Plan(cases, seconds=1.0, rounds=2)
    found = measure(
        plan,
        {case: Source(opener(case), [request()], warm_up=2) for case in cases},
        clocks=time.clocks,
        cpu_times=lambda: CpuTimes(time.cpu / 1e9 + 1, 2 * time.now / 1e9, 0.0),
    )
    one_round = [(c.policy, k) for c in cases for k in ("saturated", "live")]
    assert opened == one_round + one_round[::-1]
    assert all(s.closed for s in sessions)
    assert set(found) == set(itertools.product(cases, ("saturated", "live")))
    live = found[CASE, "live"]
    assert [r.load.other_share for r in live] == pytest.approx([0.0, 0.0])
    # half a second a round, and the last arrival's frame is not taken
    assert [len(r.recording.samples) for r in live] == [11, 11]
    assert [round(r.recording.fps) for r in found[CASE, "saturated"]] == [100, 100]
