"""Cadence and deadlines on virtual time."""

from __future__ import annotations

from gas_rt.stream.pacing import DeadlineMeter, Pacer, period_of

MS = 1_000_000


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


def test_a_deadline_is_one_period_after_the_frame_before() -> None:
    meter = DeadlineMeter(period_of(25))
    assert [meter.frame(t * MS) for t in (0, 40, 81, 120, 300)] == [False, False, True, False, True]
    assert meter.miss_ratio == 2 / 4


def test_no_frame_no_miss() -> None:
    assert DeadlineMeter(period_of(25)).miss_ratio == 0.0
