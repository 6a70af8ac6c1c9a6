"""The ladder alone: when it steps down, when it comes back, and that it does not oscillate."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gas_rt.errors import InputError
from gas_rt.stream.ladder import Ladder, LadderConfig, Rung

MS = 1_000_000
PERIOD = 40 * MS
# As gas-mini's: four steps of one frame, two of two, one of four.
RUNGS = (Rung(1.0, 1, 3), Rung(0.5, 2, 3), Rung(0.25, 4, 3))
FIELD = len(RUNGS)


def opened(**config: float) -> Ladder:
    return Ladder(RUNGS, period_ns=PERIOD, config=LadderConfig(**config))


def play(ladder: Ladder, call_ms: float, *, frames: int, start: int = 0) -> Iterator[int]:
    """Poses at the stream's rate, and a denoiser that takes `call_ms`; the rung of each pose."""
    for k in range(start, start + frames):
        now = k * PERIOD
        rung = ladder.next_rung(index=k, pushed_ns=now, now_ns=now)
        yield rung
        if rung == FIELD:
            ladder.frame(PERIOD, now)
            continue
        ladder.call(call_ms * MS)
        took = max(PERIOD, round(RUNGS[rung].calls * call_ms * MS))
        ladder.frame(took, now)


def test_what_is_in_time_stays_on_the_first_rung() -> None:
    ladder = opened()
    assert set(play(ladder, 30, frames=500)) == {0}
    assert set(play(ladder, 41.5, frames=500, start=500)) == {0}  # within the tolerance


def test_a_lower_rung_is_granted_nothing_above_the_period() -> None:
    ladder = opened()
    assert list(play(ladder, 60, frames=40))[-1] == 1
    for _ in range(200):
        ladder.frame(round(40.8 * MS), 0)
    assert ladder.rung > 1


def after_pauses(ladder: Ladder, *, pause_ms: float, poses: int, pauses: int) -> list[int]:
    """Rungs of `poses` at the stream's rate after each of `pauses`; calls take 60 ms."""
    assert list(play(ladder, 60, frames=40))[-1] == 1
    rungs, now = [], 40 * PERIOD
    for number in range(pauses):
        now += round(pause_ms * MS)
        for k in range(poses):
            index = 40 + number * poses + k
            rungs.append(ladder.next_rung(index=index, pushed_ns=now, now_ns=now))
            ladder.call(60 * MS)
            now += PERIOD
    return rungs


def test_a_pause_of_the_poses_is_not_their_rate() -> None:
    """Calls seem to have all the time of it: the rung above would be tried, and would not hold."""
    assert set(after_pauses(opened(), pause_ms=3000, poses=25, pauses=5)) == {1}


def test_poses_that_always_come_seldom_are_a_rate() -> None:
    rungs = after_pauses(opened(), pause_ms=800, poses=1, pauses=10)
    assert rungs[0] == 1
    assert rungs[-1] == 0  # there is time enough for all steps


def test_a_single_hiccup_is_forgiven() -> None:
    ladder = opened()
    for gap_ms in [40] * 20 + [110] + [40] * 20:
        ladder.frame(gap_ms * MS, 0)
    assert ladder.rung == 0


@pytest.mark.parametrize(
    ("call_ms", "expected"), [(60, 1), (75, 1), (100, 2), (150, 2), (200, FIELD), (900, FIELD)]
)
def test_it_steps_to_the_highest_rung_that_the_measured_cost_lets_hold(
    call_ms: float, expected: int
) -> None:
    rungs = list(play(opened(), call_ms, frames=24))
    assert rungs[-1] == expected
    assert set(rungs) == {0, expected}


def test_it_comes_back_a_rung_at_a_time_once_calls_are_fast_again() -> None:
    ladder = opened()
    assert list(play(ladder, 100, frames=30))[-1] == 2
    rungs = list(play(ladder, 25, frames=150, start=30))
    assert rungs[-1] == 0
    assert sorted(set(rungs)) == [0, 1, 2]
    assert rungs == sorted(rungs, reverse=True)
    assert rungs.count(1) >= 25  # kept for settle_s


def test_from_the_field_it_tries_less_and_less_often_while_nothing_has_changed() -> None:
    ladder = opened(settle_s=0.4, settle_max_s=3.2)
    rungs = list(play(ladder, 400, frames=2000))
    tries = [k for k in range(1, 2000) if rungs[k - 1] == FIELD and rungs[k] != FIELD]
    waits = [b - a for a, b in pairwise(tries)]
    assert waits[0] < waits[1] < waits[2]
    assert max(waits) * PERIOD <= 3.2e9 + 5 * PERIOD
    on_trial = sum(rung != FIELD for rung in rungs[50:])
    assert on_trial / len(rungs) < 0.06  # two poses of each trial


def test_after_a_rung_has_held_the_next_trouble_is_met_with_the_first_patience() -> None:
    ladder = opened(settle_s=0.4)
    list(play(ladder, 400, frames=600))
    assert ladder._settle_ns > 0.4e9
    assert list(play(ladder, 20, frames=1500, start=600))[-1] == 0
    assert ladder._settle_ns == 0.4e9


def test_a_rung_above_is_tried_only_if_it_would_hold() -> None:
    """60 ms fit two frames a call and not one: without hysteresis this would swing for ever."""
    rungs = list(play(opened(), 60, frames=2000))
    assert set(rungs[30:]) == {1}


def test_slow_poses_are_no_lateness_and_their_rate_counts_on_the_way_up() -> None:
    ladder = opened()
    list(play(ladder, 60, frames=30))
    assert ladder.rung == 1
    for k in range(60):  # ten a second: 60 ms a frame would do
        now = (30 + k) * 100 * MS
        ladder.next_rung(index=30 + k, pushed_ns=now, now_ns=now)
        ladder.call(60 * MS)
        ladder.frame(60 * MS if k < 5 else 40 * MS, now)
    assert ladder.rung == 0


def test_poses_that_were_dropped_count_for_their_rate() -> None:
    ladder = opened()
    for k in range(0, 400, 4):  # three of four were dropped before they came here
        ladder.next_rung(index=k, pushed_ns=k * PERIOD, now_ns=k * PERIOD)
    assert ladder._interval_ns == pytest.approx(PERIOD)


def test_without_rungs_there_is_nothing_to_step_to() -> None:
    ladder = Ladder([], period_ns=PERIOD, config=LadderConfig())
    for k in range(100):
        assert ladder.next_rung(index=k, pushed_ns=k, now_ns=k * PERIOD) == 0
        ladder.frame(10 * PERIOD, k * PERIOD)
    assert (ladder.rung, ladder.field, ladder.burst) == (0, 0, 1)


@given(
    steps=st.lists(
        st.tuples(
            st.integers(-4_000, 4_000),  # of the clock, ms: it may jump either way
            st.floats(1, 2_000),
            st.integers(0, 3_000),
        ),
        max_size=80,
    )
)
def test_any_clock_and_any_cost_leave_it_on_one_of_its_rungs(
    steps: list[tuple[int, float, int]],
) -> None:
    ladder, now = opened(settle_s=0.2), 10**12
    for index, (jump, cost, gap) in enumerate(steps):
        before = ladder.rung
        now += jump * MS
        assert 0 <= ladder.next_rung(index=index, pushed_ns=now, now_ns=now) <= FIELD
        assert ladder.rung >= before - 1  # up one at a time
        ladder.call(cost * MS)
        ladder.frame(gap * MS, now)
        assert 0 <= ladder.rung <= FIELD
    now += 10**13
    for index in range(200, 1200):  # whatever was, it comes back
        now += PERIOD
        ladder.next_rung(index=index, pushed_ns=now, now_ns=now)
        ladder.call(5 * MS)
        ladder.frame(PERIOD, now)
    assert ladder.rung == 0


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("late_after", 0.9),
        ("tolerance", 0.5),
        ("patience", -1),
        ("margin", 1.5),
        ("settle_s", float("nan")),
        ("settle_max_s", 0.1),
    ],
)
def test_settings_that_are_none_are_named(option: str, value: float) -> None:
    with pytest.raises(InputError, match=f"LadderConfig.{option}: expected"):
        LadderConfig(**{option: value})
