"""Cadence and deadlines on virtual time."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from gas_rt.stream.pacing import Cadence, DeadlineMeter, Pacer, period_of

MS = 1_000_000


def handed_out(
    pacer: Pacer, ready_ms: Callable[[int], float], *, frames: int, poll_ms: float = 0
) -> list[float]:
    """When frames that are ready at `ready_ms` of their number are handed out, in ms."""
    now, times = 0, []
    for k in range(frames):
        ready = round(ready_ms(k) * MS)
        now = max(now, ready)
        now += pacer.wait_ns(now)
        if poll_ms:
            now = math.ceil(now / (poll_ms * MS)) * round(poll_ms * MS)
        if isinstance(pacer, Cadence):
            pacer.show(now, ready_ns=ready)
        else:
            pacer.start(now)
        times.append(now / MS)
    return times


def test_starts_lie_on_the_grid_though_each_is_a_little_late() -> None:
    pacer = Pacer(40 * MS)
    now, ticks = 5 * MS, []
    for late_ms in (0, 3, 1, 7, 0):
        now += pacer.wait_ns(now) + late_ms * MS
        ticks.append(pacer.start(now))
    assert ticks == [5 * MS + k * 40 * MS for k in range(5)]


def test_a_stall_longer_than_a_period_founds_a_new_grid_instead_of_a_burst() -> None:
    pacer = Pacer(40 * MS)
    pacer.start(0)
    assert pacer.start(200 * MS) == 200 * MS
    assert pacer.wait_ns(201 * MS) == 39 * MS


def test_a_stall_within_a_period_is_caught_up_with() -> None:
    pacer = Pacer(40 * MS)
    pacer.start(0)
    assert pacer.start(70 * MS) == 40 * MS
    assert pacer.wait_ns(70 * MS) == 10 * MS


def test_reset_forgets_the_grid() -> None:
    pacer = Pacer(40 * MS)
    pacer.start(0)
    pacer.reset()
    assert pacer.wait_ns(3 * MS) == 0
    assert pacer.start(3 * MS) == 3 * MS


def test_frames_that_are_ready_at_uneven_times_become_even() -> None:
    """Where the first was early, a plain grid hands out most of the others late, and uneven."""
    jitter = np.random.default_rng(0).uniform(0, 9, 500)
    jitter[0] = 0
    even, plain = (
        np.diff(handed_out(kind(40 * MS), lambda k: 40 * k + jitter[k], frames=500))
        for kind in (Cadence, Pacer)
    )
    assert (plain > 44).mean() > 0.1
    assert (even > 44).mean() < 0.01
    assert even.std() < 1 < 3 < plain.std()


def ages_ms(ready_ms: Callable[[int], float], *, frames: int) -> NDArray[np.float64]:
    """From the time that frames are ready on average to when they are handed out."""
    times = handed_out(Cadence(40 * MS), ready_ms, frames=frames)
    return np.array(times) - 40 * np.arange(frames)


def test_a_stream_begins_with_time_to_spare_and_gives_back_what_it_does_not_need() -> None:
    age = ages_ms(lambda k: 40 * k, frames=1000)
    assert np.diff(age[:5]).tolist() == [3, 3, 3, 3]
    assert set(age[5:250]) == {12}
    assert age[-1] == 4


def test_a_frame_that_was_late_once_costs_age_for_a_while_only() -> None:
    age = ages_ms(lambda k: 40 * k + 30 * (k == 100), frames=1000)
    assert age[100] == 30
    assert age[101] == 38  # and a fifth of a period more
    assert age[340] == 34  # ten seconds later, but for what it had to spare itself
    assert age[-1] == 4


def test_a_grid_that_is_put_off_holds_back_frames_that_are_ready() -> None:
    """Frames that are made two at a time: the second is there when the first is handed out."""
    late = [30.0 * (k == 10) for k in range(100)]
    times = handed_out(Cadence(40 * MS), lambda k: 80 * (k // 2) + late[k], frames=100)
    assert np.diff(times).min() > 30


def test_what_is_late_again_and_again_is_waited_for() -> None:
    age = ages_ms(lambda k: 40 * k + 20 * (k % 100 == 99), frames=2000)
    assert age[200:].min() >= 20
    assert age[200:].max() <= 28


def test_a_frame_that_was_put_off_is_the_measure_of_those_after_it() -> None:
    cadence, now = Cadence(40 * MS), 0
    for k in range(1000):
        if k == 300:
            cadence.put_off(now + 70 * MS)
        now = max(now, 40 * k * MS)
        now += cadence.wait_ns(now)
        cadence.show(now, ready_ns=40 * k * MS, in_time=k != 300)
        if k == 310:
            assert now == 40 * k * MS + 34 * MS
    assert now == (40 * 999 + 4) * MS


def test_one_who_polls_seldom_gets_every_frame() -> None:
    times = handed_out(Cadence(40 * MS), lambda k: 40 * k + k % 3, frames=500, poll_ms=1e3 / 60)
    assert times[-1] <= 40 * 499 + 12 + 2 * 17


def test_a_cadence_follows_a_slower_stream() -> None:
    times = handed_out(Cadence(40 * MS), lambda k: 50 * k, frames=100)
    assert times == [50.0 * k for k in range(100)]


def test_a_deadline_is_one_period_after_the_frame_before() -> None:
    meter = DeadlineMeter(period_of(25))
    assert [meter.frame(t * MS) for t in (0, 40, 81, 120, 300)] == [False, False, True, False, True]
    assert meter.miss_ratio == 2 / 4


def test_no_frame_no_miss() -> None:
    assert DeadlineMeter(period_of(25)).miss_ratio == 0.0
