"""A session's lateness on virtual time: no stall, bounded age, exact counts, and the way back."""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gas_rt.bench.viewer import watch
from gas_rt.core import Frame, OnLate, Request
from gas_rt.stream.ladder import LadderConfig, ScriptedLadder
from gas_rt.stream.pacing import period_of
from gas_rt.stream.plans import promised_age_ns
from gas_rt.stream.stages import Job, Picture
from gas_rt.stream.watching import Watcher
from tests.stream.conftest import PATIENCE_S, pose
from tests.stream.simulation import (
    CAMERA,
    MS,
    SimGraph,
    Simulation,
    conditioned,
    denoise_stage,
    every,
    field_of,
)

LIVE: tuple[OnLate, ...] = ("freshest", "paced")
PERIOD_MS = 40.0
STALL_MS = PERIOD_MS + 100  # what a viewer with a start buffer of 100 ms sees as a stall
FEED_MS = 8.0


def slowed(
    low_s: float, high_s: float, ms: float, usual_ms: float = 25.0
) -> Callable[[int], float]:
    """Calls begun between two times, since the start at 1 s, take `ms`."""
    return lambda now: ms if low_s <= (now - 1e9) / 1e9 < high_s else usual_ms


def promised_ms(sim: Simulation) -> float:
    promised = sim.pipeline.promised_age_ms
    assert promised is not None
    return promised + FEED_MS


def check(sim: Simulation) -> None:
    """What holds however late frames are."""
    ledger = sim.pipeline.ledger
    assert ledger.accepted == ledger.delivered + ledger.dropped_total + ledger.in_flight
    new = [s for s in sim.shown if s.frame.level != "held"]
    indices = [s.frame.index for s in new]
    assert indices == sorted(set(indices)), "a pose was shown twice, or after a newer one"
    assert ledger.delivered == len(new)
    if sim.config is not None:
        ages = [(s.clock_ns - s.frame.timings.captured_ns) / MS for s in new[1:]]
        assert max(ages, default=0) <= promised_ms(sim)


@pytest.mark.parametrize("on_late", LIVE)
def test_in_time_every_frame_is_full(on_late: OnLate) -> None:
    sim = Simulation(on_late=on_late)
    sim.run(every(40, until_ms=4000), until_ms=4000)
    check(sim)
    assert set(sim.levels()) == {"full"}
    assert set(sim.gaps_ms(after_ms=300)) == {40.0}
    head_start_ms = 0.3 * PERIOD_MS if on_late == "paced" else 0
    usual_ms = 3 * PERIOD_MS + FEED_MS + 25 + 6 + 2 * sim.poll_ms
    assert max(sim.ages_ms()) <= usual_ms + head_start_ms
    assert sim.pipeline.ledger.dropped_total == 0


@pytest.mark.parametrize("on_late", LIVE)
def test_an_engine_four_times_slower_for_five_seconds_goes_down_the_ladder_and_back(
    on_late: OnLate,
) -> None:
    sim = Simulation(on_late=on_late, call_ms=slowed(2, 7, 100.0))
    sim.run(every(40, until_ms=12_000), until_ms=12_000)
    check(sim)
    assert max(sim.gaps_ms()) < STALL_MS
    assert set(sim.levels(before_ms=2000)) == {"full"}
    assert set(sim.levels(after_ms=2100, before_ms=2600)) == {"field"}  # at once, not after a wait
    # Whose calls take as long as they may: now and then a field has to keep the rate.
    fewer = sim.levels(after_ms=4000, before_ms=7000)
    assert set(fewer) <= {"fewer_steps", "field"}
    assert fewer.count("fewer_steps") >= len(fewer) / 2
    assert set(sim.levels(after_ms=9500)) == {"full"}
    rungs = [rung for _, rung in sorted(sim.decided.items())]
    assert sum(a != b for a, b in pairwise(rungs)) <= 12


@pytest.mark.parametrize("factor", [2, 3, 4, 6, 20])
@pytest.mark.parametrize("on_late", LIVE)
def test_a_slow_engine_costs_quality_and_no_stall(on_late: OnLate, factor: int) -> None:
    """Neither where it gets slow, nor where new windows are tried and begun."""
    sim = Simulation(on_late=on_late, call_ms=slowed(5, 10, 25.0 * factor))
    sim.decode_ms = slowed(5, 10, 8.0 * factor, usual_ms=8.0)
    sim.run(every(40, until_ms=25_000), until_ms=25_000)
    check(sim)
    seen = watch([s.at_ns for s in sim.shown], fps=25, buffer_ms=100)
    assert seen.stalls == 0
    assert set(sim.levels(before_ms=5000)) == {"full"}
    assert len(sim.levels(after_ms=5000, before_ms=10_000)) >= 122
    assert sim.levels(after_ms=6000, before_ms=10_000).count("full") == 0
    assert set(sim.levels(after_ms=18_000)) == {"full"}


@pytest.mark.parametrize("on_late", LIVE)
def test_what_a_lower_rung_leaves_waiting_is_shown_at_the_streams_rate(on_late: OnLate) -> None:
    """Skipped at once, its age would be missing when full frames come again."""
    sim = Simulation(on_late=on_late, call_ms=slowed(5, 10, 100.0))
    sim.run(every(40, until_ms=9900), until_ms=9900)
    usual = np.median(sim.ages_ms()[20:120])
    slow = [s for s in sim.shown if (s.at_ns - sim.start_ns) / 1e9 >= 5.2]
    ages = [(s.at_ns - s.frame.timings.captured_ns) / MS for s in slow]
    assert min(ages) > usual - PERIOD_MS - 2 * sim.poll_ms
    assert min(sim.gaps_ms(after_ms=5200)) > PERIOD_MS / 2 - sim.poll_ms


@pytest.mark.parametrize("on_late", LIVE)
def test_a_call_that_hangs_is_not_waited_for(on_late: OnLate) -> None:
    sim = Simulation(on_late=on_late, call_ms=slowed(2, 2.03, 1500.0))
    sim.run(every(40, until_ms=9000), until_ms=9000)
    check(sim)
    assert max(sim.gaps_ms()) < STALL_MS
    assert set(sim.levels(after_ms=2100, before_ms=3500)) == {"field"}
    assert set(sim.levels(after_ms=8000)) == {"full"}


@pytest.mark.parametrize("on_late", LIVE)
def test_a_machine_that_is_far_too_slow_shows_the_field(on_late: OnLate) -> None:
    sim = Simulation(on_late=on_late, call_ms=lambda now: 600.0)
    sim.run(every(40, until_ms=10_000), until_ms=10_000)
    check(sim)
    assert set(sim.levels()) == {"field"}
    assert sim.shown[0].at_ns - sim.start_ns <= 520 * MS  # it does not wait for the window
    assert max(sim.gaps_ms()) < STALL_MS
    assert len(sim.graph.calls) <= 10  # trials


@pytest.mark.parametrize("on_late", LIVE)
def test_a_first_stage_that_is_too_slow_holds_frames_and_still_gets_on(on_late: OnLate) -> None:
    sim = Simulation(on_late=on_late, feed_ms=lambda now: 120.0)
    sim.run(every(40, until_ms=4000), until_ms=4000)
    levels = sim.levels(after_ms=1000)
    assert set(levels) == {"field", "held"}
    assert levels.count("field") >= 20
    assert max(sim.gaps_ms()) < STALL_MS
    held = [s.frame for s in sim.shown if s.frame.level == "held"]
    by_index = {s.frame.index: s.frame for s in sim.shown if s.frame.level != "held"}
    for frame in held:
        first = by_index[frame.index]
        assert frame.request is first.request
        assert (frame.rgb == first.rgb).all()
        assert frame.rgb is not first.rgb  # a frame is its taker's to draw on
        assert frame.timings.age_ms > first.timings.age_ms
    ledger = sim.pipeline.ledger
    assert ledger.accepted == ledger.delivered + ledger.dropped_total + ledger.in_flight


@pytest.mark.parametrize("on_late", LIVE)
@pytest.mark.parametrize("rate", [1.0, 3.0, 10.0])
def test_poses_faster_than_frames_leave_their_age_bounded(on_late: OnLate, rate: float) -> None:
    sim = Simulation(on_late=on_late, call_ms=lambda now: 38.0)
    sim.run(every(40 / rate, until_ms=6000), until_ms=6000)
    check(sim)
    assert set(sim.levels()) == {"full"}  # more poses are no lateness
    assert max(sim.ages_ms(after_ms=500)) < 260


@pytest.mark.parametrize("on_late", LIVE)
def test_slow_poses_are_no_lateness(on_late: OnLate) -> None:
    sim = Simulation(on_late=on_late)
    sim.run(every(100, until_ms=5000), until_ms=5000)
    check(sim)
    assert set(sim.levels()) == {"full"}
    assert sim.pipeline.ledger.dropped_total == 0


@pytest.mark.parametrize("on_late", LIVE)
def test_poses_that_stop_and_come_again_are_no_lateness(on_late: OnLate) -> None:
    sim = Simulation(on_late=on_late)
    poses = [t for t in every(40, until_ms=6000) if not 2000 <= t < 4000]
    sim.run(poses, until_ms=6000)
    check(sim)
    assert set(sim.levels()) == {"full"}
    assert sim.pipeline.ledger.dropped_total == 0
    # What the window held is finished after the pause, not when poses come again.
    last = [s for s in sim.shown if s.at_ns < sim.start_ns + 4000 * MS]
    assert len(last) == 50
    assert last[-1].at_ns < sim.start_ns + (1960 + 500 + 4 * 40 + 60) * MS
    assert max(sim.ages_ms(after_ms=4000)) <= max(sim.ages_ms(before_ms=2000))


def test_without_a_ladder_late_frames_are_waited_for() -> None:
    sim = Simulation(config=None, call_ms=slowed(2, 3, 300.0))
    sim.run(every(40, until_ms=5000), until_ms=5000)
    check(sim)
    assert set(sim.levels()) == {"full"}
    assert max(sim.gaps_ms()) >= 300


@pytest.mark.parametrize("on_late", LIVE)
def test_a_consumer_that_stops_costs_nothing_but_its_own_frames(on_late: OnLate) -> None:
    sim = Simulation(on_late=on_late, polls=lambda now: not 2 <= (now - 1e9) / 1e9 < 7)
    sim.run(every(40, until_ms=9000), until_ms=9000)
    check(sim)
    assert set(sim.levels()) == {"full"}
    assert max(sim.ages_ms(after_ms=7300)) <= max(sim.ages_ms(after_ms=300, before_ms=2000))
    reasons = sim.pipeline.ledger.dropped
    assert set(reasons) == {"unpolled_frame"}
    assert 120 <= reasons["unpolled_frame"] <= 126


@pytest.mark.parametrize("on_late", LIVE)
def test_a_pause_ends_a_window_once_however_long_its_frames_wait_to_be_taken(
    on_late: OnLate,
) -> None:
    class Pauses(Watcher):
        def paused(self, *, now_ns: int) -> None:
            pauses_ms.append(now_ns / MS - 1000)

    pauses_ms: list[float] = []
    stopped = 2000
    sim = Simulation(
        on_late=on_late,
        polls=lambda now: not stopped <= now / MS - 1000 < 9000,
        watchers=[Pauses()],
    )
    sim.run(every(40, until_ms=stopped), until_ms=9500)
    assert len(pauses_ms) == 1
    assert stopped < pauses_ms[0] < stopped + 600
    assert sim.pipeline.ledger.in_flight == 0


def test_fields_are_made_out_of_the_lock_and_shown_once_whoever_polls() -> None:
    """While one poll makes the picture, another one comes, and shows the same field before it."""
    others: list[tuple[int, Frame | None]] = []

    def taken(job: Job) -> None:
        frame, _ = sim.pipeline.take()
        others.append((job.index, frame))

    def field(job: Job) -> Picture | None:
        if not any(index == job.index for index, _ in others):
            other = threading.Thread(target=taken, args=(job,))
            others.append((job.index, None))
            other.start()
            other.join(PATIENCE_S)
            assert not other.is_alive(), "a poll waited for another one's picture"
        return field_of(job)

    sim = Simulation(call_ms=lambda now: 600.0, field_of=field)
    sim.run(every(40, until_ms=3000), until_ms=3000)
    by_others = [frame.index for _, frame in others if frame is not None]
    by_us = [s.frame.index for s in sim.shown if s.frame.level != "held"]
    assert len(by_others) >= 10
    assert len({*by_others, *by_us}) == len(by_others) + len(by_us)
    ledger = sim.pipeline.ledger
    assert ledger.delivered == len(by_others) + len(by_us)
    assert ledger.accepted == ledger.delivered + ledger.dropped_total + ledger.in_flight


@pytest.mark.parametrize("on_late", LIVE)
def test_what_stands_in_is_no_older_than_frames_may_be(on_late: OnLate) -> None:
    """First calls hang, then the stage that renders the fields."""
    sim = Simulation(
        on_late=on_late,
        max_age_ms=250.0,
        call_ms=slowed(2, 2.03, 1500.0),
        feed_ms=slowed(5, 5.03, 900.0, FEED_MS),
    )
    sim.run(every(40, until_ms=13_000), until_ms=13_000)
    check(sim)
    assert {"full", "field", "held"} <= set(sim.levels())
    ages = [(s.clock_ns - s.frame.timings.captured_ns) / MS for s in sim.shown]
    assert max(ages) <= 250
    assert sim.pipeline.ledger.dropped["old_frame"] > 0
    assert max(sim.gaps_ms(before_ms=5000)) < STALL_MS  # there is always a field young enough
    assert set(sim.levels(after_ms=12_500)) == {"full"}


@settings(max_examples=40)
@given(
    on_late=st.sampled_from(["freshest", "paced", "lossless"]),
    laddered=st.booleans(),
    gaps_ms=st.lists(st.sampled_from([0, 1, 7, 20, 40, 40, 40, 90, 400]), max_size=60),
    costs_ms=st.lists(st.floats(0.1, 400), min_size=1, max_size=8),
    feed_ms=st.floats(0.1, 100),
    poll_ms=st.sampled_from([1, 5, 16, 40, 130]),
    max_age_ms=st.sampled_from([None, 30, 250]),
    reset_at=st.integers(0, 80),
    jumps=st.dictionaries(st.integers(0, 60), st.sampled_from([-5000, -60, 60, 7000]), max_size=3),
)
def test_counts_are_exact_and_frames_in_order_for_any_schedule(
    on_late: OnLate,
    laddered: bool,
    gaps_ms: list[int],
    costs_ms: list[float],
    feed_ms: float,
    poll_ms: float,
    max_age_ms: float | None,
    reset_at: int,
    jumps: dict[int, int],
) -> None:
    config = LadderConfig(settle_s=0.2) if laddered and on_late != "lossless" else None
    sim = Simulation(
        on_late=on_late,
        config=config,
        call_ms=lambda now: costs_ms[now // (200 * MS) % len(costs_ms)],
        feed_ms=lambda now: feed_ms,
        poll_ms=poll_ms,
        max_age_ms=max_age_ms,
    )
    times, at = [], 0.0
    for gap in gaps_ms:
        at += gap
        times.append(at)

    def meddle(pushed: int) -> None:
        if pushed == reset_at:
            sim.pipeline.reset()
        ledger = sim.pipeline.ledger
        assert ledger.accepted == ledger.delivered + ledger.dropped_total + ledger.in_flight
        assert ledger.accepted + ledger.refused == pushed
        sim.jump_ms(jumps.get(pushed, 0))

    sim.run(times, until_ms=at + 3000, after_push=meddle)
    sim.pipeline.close()
    ledger = sim.pipeline.ledger
    assert ledger.in_flight == 0
    assert ledger.accepted == ledger.delivered + ledger.dropped_total
    new = [s.frame.index for s in sim.shown if s.frame.level != "held"]
    assert new == sorted(set(new))
    assert len(new) == ledger.delivered
    if config is None:
        assert set(sim.levels()) <= {"full"}
    if max_age_ms is not None and not jumps:
        ages = [(s.clock_ns - s.frame.timings.captured_ns) / MS for s in sim.shown]
        assert max(ages, default=0) <= max_age_ms


@pytest.mark.parametrize(("slow_ms", "lowest"), [(100.0, 2), (400.0, 3)])
def test_the_rungs_that_were_decided_make_the_same_frames_again(
    slow_ms: float, lowest: int
) -> None:
    """Poses in the order they came to the window, and their rungs: nothing else counts."""
    sim = Simulation(call_ms=slowed(1, 3, slow_ms))
    sim.run(every(40, until_ms=6000), until_ms=6000)
    assert {0, lowest} <= set(sim.decided.values())
    again = denoise_stage(
        SimGraph(),
        ladder=ScriptedLadder(sim.decided, field=sim.ladder.field),
        clock=sim.clock,
    )
    made = {}
    for index in sim.decided:
        given_job = Job(index, 0, Request(pose(index), CAMERA), 0, 0)
        fed = given_job.after("feed", conditioned(given_job), elapsed_ns=0)
        made |= {job.index: job.payload for job in again.process(fed) if job is not None}
    compared = 0
    for index, latent in sim.latents.items():
        if index in made and made[index].latent is not None:
            np.testing.assert_array_equal(made[index].latent, latent)
            compared += 1
    assert compared > 40


@settings(max_examples=25)
@given(
    on_late=st.sampled_from(LIVE),
    gaps_ms=st.lists(st.sampled_from([3, 13, 40, 40, 90]), min_size=20, max_size=120),
    costs_ms=st.lists(st.sampled_from([5.0, 25.0, 60.0, 110.0, 700.0]), min_size=1, max_size=8),
    feed_ms=st.floats(0.1, 30),
)
def test_the_promise_holds_whatever_calls_take_while_poses_come(
    on_late: OnLate, gaps_ms: list[int], costs_ms: list[float], feed_ms: float
) -> None:
    sim = Simulation(
        on_late=on_late,
        call_ms=lambda now: costs_ms[now // (300 * MS) % len(costs_ms)],
        feed_ms=lambda now: feed_ms,
    )
    times = [float(sum(gaps_ms[:k])) for k in range(len(gaps_ms))]
    sim.run(times, until_ms=times[-1])
    promised = sim.pipeline.promised_age_ms
    assert promised is not None
    new = [s for s in sim.shown if s.frame.level != "held"]
    ages = [(s.clock_ns - s.frame.timings.captured_ns) / MS for s in new[1:]]
    assert max(ages, default=0) <= promised + feed_ms + sim.poll_ms


@pytest.mark.parametrize("jump_ms", [-3_600_000, 3_600_000])
@pytest.mark.parametrize("on_late", LIVE)
def test_a_clock_that_jumps_by_an_hour_costs_no_more_than_a_moment(
    on_late: OnLate, jump_ms: int
) -> None:
    sim = Simulation(on_late=on_late)
    sim.run(every(40, until_ms=2000), until_ms=2000)
    sim.jump_ms(jump_ms)
    sim.run([2000 + t for t in every(40, until_ms=3000)], until_ms=5000)
    assert max(sim.gaps_ms()) < STALL_MS
    assert set(sim.levels(after_ms=3500)) == {"full"}
    assert set(sim.gaps_ms(after_ms=3500)) == {40.0}
    assert sim.pipeline.ledger.dropped_total <= 4


def test_the_promise_follows_from_what_can_be_in_flight() -> None:
    sim = Simulation()
    # 2 before the window, 4 waiting for it, 4 displaced there, 4 in it, 2 for the decoder, 4 to be
    # taken, and one.
    assert promised_age_ns(sim.pipeline._plan, flight=4, late_ns=60 * MS) == 21 * 60 * MS
    assert sim.pipeline.promised_age_ms == 21 * 54  # 1.35 periods
    assert Simulation(config=None).pipeline.promised_age_ms is None
    assert sim.ladder.late_ns == round(1.35 * period_of(25))
