"""The drivers on a clock that only the toy session moves."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from gas_rt.bench.arrivals import arrival_times_ns
from gas_rt.bench.drive import drive_live, drive_saturated
from tests.bench.toys import MS, START_NS, QueueingSession, VirtualTime, request


def endless() -> itertools.repeat:
    return itertools.repeat(request())


def test_a_fast_session_gives_every_pose_at_its_service_time() -> None:
    time = VirtualTime()
    session = QueueingSession(time, service_ms=10)
    found = drive_live(
        session, endless(), arrival_times_ns(1, fps=25).tolist(), warm_up=3, clocks=time.clocks
    )
    assert session.pushed_at == [START_NS + 40 * MS * k for k in range(25)]
    assert found.first_frame_ms == 10
    assert (found.warm_up, len(found.samples)) == (3, 21)  # the last arrival's is in flight
    assert {s.age_ms for s in found.samples} == {10.0}
    assert set(np.diff([s.polled_ns for s in found.samples])) == {40 * MS}
    assert found.fps == pytest.approx(25)
    assert found.core_s_per_frame == pytest.approx(0.010)
    assert (found.accepted, found.dropped, found.in_flight) == (25, 0, 1)
    assert max(found.push_late_ms) == 0


def test_a_slow_session_does_not_slow_the_arrivals() -> None:
    time = VirtualTime()
    session = QueueingSession(time, service_ms=130)
    found = drive_live(
        session, endless(), arrival_times_ns(4, fps=25).tolist(), warm_up=2, clocks=time.clocks
    )
    assert session.pushed_at == [START_NS + 40 * MS * k for k in range(100)]
    assert found.fps == pytest.approx(1000 / 130)
    # The freshest pose waits at most a period of the arrivals for its turn.
    ages = [s.age_ms for s in found.samples]
    assert min(ages) >= 130
    assert max(ages) <= 130 + 40
    assert found.accepted == 100
    assert found.accepted == session.delivered + found.dropped + found.in_flight


def test_ages_count_from_when_a_pose_was_to_arrive() -> None:
    time = VirtualTime()

    class Held(QueueingSession):
        def wait(self, *, timeout_s: float | None = None) -> object:
            frame = super().wait(timeout_s=timeout_s)
            self.time.now += 7 * MS  # the system gives the driver its turn late
            return frame

    session = Held(time, service_ms=10)
    found = drive_live(
        session, endless(), arrival_times_ns(1, fps=25).tolist(), warm_up=0, clocks=time.clocks
    )
    assert max(found.push_late_ms) == 7
    assert max(s.age_ms for s in found.samples) > 17


def test_a_consumer_that_stops_leaves_the_arrivals_alone() -> None:
    time = VirtualTime()
    session = QueueingSession(time, service_ms=10)
    found = drive_live(
        session,
        endless(),
        arrival_times_ns(2, fps=25).tolist(),
        warm_up=0,
        clocks=time.clocks,
        polls=lambda elapsed_ns: not 500 * MS <= elapsed_ns < 1000 * MS,
    )
    polled_ms = [(s.polled_ns - START_NS) / MS for s in found.samples]
    assert not [t for t in polled_ms if 500 <= t < 1000]
    assert len(session.pushed_at) == 50
    assert len([t for t in polled_ms if t >= 1000]) >= 25


def test_saturated_measures_the_rate_after_the_warm_up() -> None:
    time = VirtualTime()
    session = QueueingSession(time, service_ms=20, slots=4, drop_oldest=False)
    found = drive_saturated(
        session, endless(), warm_up=5, measured_ns=1000 * MS, clocks=time.clocks
    )
    assert found.warm_up == 5
    assert found.fps == pytest.approx(50)
    assert found.span_ns >= 1000 * MS
    assert len(found.samples) == 51
    assert found.core_s_per_frame == pytest.approx(0.020)
    assert found.first_frame_ms == 20
    assert session.refused == 0


def test_saturated_waits_for_two_frames_of_a_slow_session() -> None:
    time = VirtualTime()
    session = QueueingSession(time, service_ms=5000, slots=4, drop_oldest=False)
    found = drive_saturated(session, endless(), warm_up=1, measured_ns=MS, clocks=time.clocks)
    assert len(found.samples) == 2
    assert found.fps == pytest.approx(0.2)
