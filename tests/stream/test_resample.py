"""Poses at another rate than the stream's, and what the avatar does when they stop."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gas_rt.body.rotations import angles_between
from gas_rt.cameras import moved_with, turned
from gas_rt.core import Camera, Pose, Request
from gas_rt.errors import InputError, SessionError
from gas_rt.stream.conductor import Conductor
from gas_rt.stream.config import SessionConfig
from gas_rt.stream.pacing import period_of
from gas_rt.stream.resample import Resampler, between
from gas_rt.stream.session import Session
from gas_rt.stream.starvation import PoseClock, Starvation
from tests.stream.conftest import PATIENCE_S, ToyStage, VirtualClock
from tests.stream.simulation import CAMERA

MS = 1_000_000
PERIOD = period_of(25)


def turning(seconds: float) -> Pose:
    """Every joint turns about its own axis at 1 rad/s; the body walks at 1 m/s."""
    axes = np.eye(3, dtype=np.float32)[np.arange(24) % 3]
    return Pose(axes * np.float32(seconds), np.array([seconds, 0, 0], np.float32))


def request(seconds: float, camera: Camera = CAMERA) -> Request:
    return Request(turning(seconds), camera)


def ticks(
    clock: PoseClock, samples: Iterable[tuple[float, Request]], *, until_ms: float
) -> list[tuple[float, Request]]:
    """(when, what) of every tick, given samples by the time (ms) they come.

    They are captured then, unless they say when.
    """
    waiting = sorted(samples, key=lambda sample: sample[0])
    now, out = 0, []
    while now < until_ms * MS:
        while waiting and waiting[0][0] * MS <= now:
            at, sample = waiting.pop(0)
            captured_ns = sample.captured_ns
            clock.sample(
                sample,
                captured_ns=round(at * MS) if captured_ns is None else captured_ns,
                now_ns=now,
            )
        wait_ns = clock.wait_ns(now)
        if wait_ns == 0 and (made := clock.tick(now)) is not None:
            out.append((now / MS, made))
        steps = [ns for ns in (clock.wait_ns(now),) if ns]
        steps += [round(waiting[0][0] * MS) - now] if waiting else []
        now += max(1, min(steps, default=PERIOD))
    return out


def angle_of(pose: Pose, joint: int = 5) -> float:
    return float(np.linalg.norm(pose.rotations[joint]))


@pytest.mark.parametrize("rate", [8.0, 24.0, 30.0, 60.0, 120.0])
def test_an_even_motion_stays_even_at_the_streams_rate(rate: float) -> None:
    samples = [(k * 1000 / rate, request(k / rate)) for k in range(int(2 * rate))]
    made = ticks(PoseClock(period_ns=PERIOD, starvation=None), samples, until_ms=1900)
    assert np.diff([at for at, _ in made])[1:] == pytest.approx(40.0)  # one sample is no motion
    steps = np.diff([angle_of(r.pose) for _, r in made][12:])
    assert steps == pytest.approx(np.full(len(steps), 0.04), abs=0.01 if rate < 25 else 2e-3)
    behind = [at / 1000 - angle_of(r.pose) for at, r in made][12:]
    assert max(behind) <= 1 / rate + 0.002  # one distance of samples
    walked = np.array([r.pose.translation[0] for _, r in made][12:])
    np.testing.assert_allclose(walked, [angle_of(r.pose) for _, r in made][12:], atol=1e-4)
    for at, r in made:
        assert r.captured_ns is not None
        assert r.captured_ns <= at * MS


def test_joints_take_the_shortest_way() -> None:
    one, two = np.zeros((24, 3)), np.zeros((24, 3))
    one[4, 2], two[4, 2] = 3.0, -3.0  # 0.28 rad apart through π
    pose, _ = between(Request(Pose(one), CAMERA), Request(Pose(two), CAMERA), 0.5)
    assert abs(pose.rotations[4, 2]) == pytest.approx(np.pi, abs=1e-5)
    middle = angles_between(pose.rotations, Pose(one).rotations)[4]
    assert middle == pytest.approx(np.pi - 3, abs=1e-5)


def test_a_camera_moves_straight_and_turns_on_the_shortest_way() -> None:
    far = moved_with(turned(CAMERA, 0.8), np.array([2, 0, 1], np.float32))
    one, two = request(0, CAMERA), request(0, far)
    place = [-c.rotation.T @ c.translation for c in (CAMERA, far)]
    for part in (0.25, 0.5, 0.9):
        _, camera = between(one, two, part)
        here = -camera.rotation.T @ camera.translation
        np.testing.assert_allclose(here, (1 - part) * place[0] + part * place[1], atol=1e-5)
    wide = Camera(CAMERA.intrinsics, CAMERA.rotation, CAMERA.translation, 80, 64)
    assert between(one, request(0, wide), 0.4)[1] is CAMERA
    assert between(one, request(0, wide), 0.6)[1] is wide
    assert between(one, two, 0.0)[1] is CAMERA
    assert between(one, two, 1.0)[1] is far


@given(
    order=st.permutations(range(8)),
    asked=st.lists(st.integers(-50, 400), max_size=12),
    repeated=st.booleans(),
)
def test_samples_may_come_in_any_order(order: list[int], asked: list[int], repeated: bool) -> None:
    sorted_one, mixed = Resampler(), Resampler()
    for k in range(8):
        sorted_one.add(request(k * 0.03), captured_ns=k * 30 * MS)
    for k in [*order, *(order if repeated else [])]:
        mixed.add(request(k * 0.03), captured_ns=k * 30 * MS)
    for ms in asked:
        one, two = sorted_one.at(ms * MS), mixed.at(ms * MS)
        np.testing.assert_array_equal(one.pose.rotations, two.pose.rotations)
        assert one.captured_ns == two.captured_ns
        expected = min(max(ms, 0), 210) / 1000
        assert angle_of(one.pose) == pytest.approx(expected, abs=1e-5)


def test_only_the_latest_samples_are_kept_and_tasks_change_with_theirs() -> None:
    resampler = Resampler()
    for k in range(1000):
        task = "view" if k < 990 else "pose"
        sample = Request(turning(k / 100), CAMERA, task=task, steps=k)  # type: ignore[arg-type]
        resampler.add(sample, captured_ns=k * 10 * MS)
    assert len(resampler._samples) == len(resampler._times) == 64
    assert (resampler.at(9895 * MS).task, resampler.at(9895 * MS).steps) == ("view", 989)
    assert resampler.at(9905 * MS).task == "pose"


def test_a_reset_that_comes_while_a_tick_is_handed_over_drops_it(
    open_session: Callable[..., Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    session = open_session([ToyStage()], resample=True, fps=100)
    assert session._conductor is not None
    offer, handing, offered = session._conductor._offer, threading.Event(), threading.Event()
    resetting = threading.Thread(target=lambda: (handing.wait(PATIENCE_S), session.reset()))

    def slowly(request: Request) -> None:
        handing.set()
        resetting.join(0.2)  # a reset may come between, or wait for this
        offer(request)
        offered.set()

    monkeypatch.setattr(session._conductor, "_offer", slowly)
    resetting.start()
    session.push(turning(0), CAMERA)
    assert offered.wait(PATIENCE_S)
    resetting.join(PATIENCE_S)
    stats = session.stats()
    assert (stats.accepted, stats.dropped_by_reason) == (1, {"reset": 1})


def test_without_starvation_nothing_comes_after_the_last_sample() -> None:
    samples = [(k * 20.0, request(k * 0.02)) for k in range(50)]
    made = ticks(PoseClock(period_ns=PERIOD, starvation=None), samples, until_ms=3000)
    assert angle_of(made[-1][1].pose) == pytest.approx(0.98, abs=1e-5)  # it is shown
    assert made[-1][0] <= 980 + 20 + 40 + 1


def test_when_poses_stop_the_avatar_holds_then_breathes_and_comes_back_smoothly() -> None:
    settings = Starvation(hold_s=1.0, return_s=0.4)
    samples = [(k * 20.0, request(0.3)) for k in range(50)]
    samples += [(6000 + k * 20.0, request(1.0)) for k in range(60)]
    made = ticks(PoseClock(period_ns=PERIOD, starvation=settings), samples, until_ms=7200)
    assert np.diff([at for at, _ in made]) == pytest.approx(40.0)  # without a gap
    at = np.array([when for when, _ in made])
    poses = np.stack([r.pose.rotations for _, r in made])
    held = poses[(at > 300) & (at < 1950)]
    np.testing.assert_allclose(held, np.broadcast_to(turning(0.3).rotations, held.shape), atol=1e-6)
    idle = poses[(at > 2200) & (at < 6000)]
    lean = angles_between(idle, np.broadcast_to(turning(0.3).rotations, idle.shape))
    assert lean[:, 3].max() > 0.003
    assert lean.max() < 0.04
    assert lean[:, [0, 1, 4, 18, 21]].max() < 1e-3  # the rest of the body stays
    speed = angles_between(poses[1:], poses[:-1]).max(axis=1)
    assert speed.max() < 0.7 * 1.5 / 0.4 * 0.040 + 0.01  # smoothly: 1.5 times the mean speed
    np.testing.assert_allclose(poses[-1], turning(1.0).rotations, atol=1e-5)
    ages = [when - (r.captured_ns or 0) / MS for when, r in made]
    assert max(ages) <= 1001 + 40  # held poses grow old, those of its own are new
    assert max(ages[len(ages) // 2 :]) <= 41


def test_a_pose_that_is_only_held() -> None:
    settings = Starvation(hold_s=0.2, breathe=False, return_s=0)
    samples = [(k * 20.0, request(0.3)) for k in range(20)] + [(2000.0, request(0.9))]
    made = ticks(PoseClock(period_ns=PERIOD, starvation=settings), samples, until_ms=2300)
    angles = {round(angle_of(r.pose), 4) for _, r in made}
    assert angles == {0.3, 0.9}


@given(jumps=st.lists(st.sampled_from([-7200_000, -50, 40, 40, 40, 90, 7200_000]), max_size=60))
def test_a_clock_that_jumps_never_stops_it(jumps: list[int]) -> None:
    clock = PoseClock(period_ns=PERIOD, starvation=Starvation())
    now = 10**16
    clock.sample(request(0), captured_ns=now, now_ns=now)
    for jump in [*jumps, 40, 40, 40]:
        now += jump * MS
        clock.sample(request(0.1), captured_ns=now, now_ns=now)
        assert (clock.wait_ns(now) or 0) <= PERIOD
        if clock.wait_ns(now) == 0:
            made = clock.tick(now)
            assert made is not None
            assert np.isfinite(made.pose.rotations).all()


@pytest.mark.parametrize(
    ("option", "value"),
    [("hold_s", -1), ("breath_s", 0.1), ("breath_rad", 2), ("return_s", float("nan"))],
)
def test_settings_that_are_none_are_named(option: str, value: float) -> None:
    with pytest.raises(InputError, match=f"Starvation.{option}: expected"):
        Starvation(**{option: value})


def test_what_does_not_go_together_is_named() -> None:
    with pytest.raises(InputError, match="resample: a 'lossless' session makes a frame of every"):
        SessionConfig(on_late="lossless", resample=True)
    with pytest.raises(InputError, match=r"starvation: .* needs resample=True"):
        SessionConfig(starvation=Starvation())


# ---- a tracker whose clock is ahead -----------------------------------------------------------


def early(samples: list[tuple[float, Request]], ahead_ms: float) -> list[tuple[float, Request]]:
    """The same samples, which come that long before their capture times."""
    return [
        (max(0, at - ahead_ms), replace(sample, captured_ns=round(at * MS)))
        for at, sample in samples
    ]


@pytest.mark.parametrize("starvation", [None, Starvation(hold_s=0.2, return_s=0.3)])
@given(
    distances=st.lists(st.sampled_from([8, 20, 33, 90, 400, 2500]), min_size=1, max_size=20),
    ahead_ms=st.floats(0, 1000),
)
def test_a_sample_of_the_future_counts_from_its_capture_time_on(
    starvation: Starvation | None, distances: list[int], ahead_ms: float
) -> None:
    times = np.cumsum(distances)
    samples = [(float(at), request(at / 1000)) for at in times]
    until = float(times[-1]) + 500
    one, two = (
        ticks(PoseClock(period_ns=PERIOD, starvation=starvation), given, until_ms=until)
        for given in (samples, early(samples, ahead_ms))
    )
    assert [at for at, _ in one] == [at for at, _ in two]
    for (at, a), (_, b) in zip(one, two, strict=True):
        assert a.captured_ns == b.captured_ns
        assert b.captured_ns is not None
        assert b.captured_ns <= at * MS  # no age is negative
        np.testing.assert_array_equal(a.pose.rotations, b.pose.rotations)


def test_until_a_sample_of_the_future_is_due_the_ones_before_it_are_shown() -> None:
    samples = [(k * 20.0, request(0.3)) for k in range(10)]
    samples += early([(1180.0, request(0.9))], 900.0)
    clock = PoseClock(period_ns=PERIOD, starvation=Starvation(hold_s=5, return_s=0))
    made = ticks(clock, samples, until_ms=1500)
    assert np.diff([at for at, _ in made]) == pytest.approx(40.0)
    for at, r in made:
        assert angle_of(r.pose) == pytest.approx(0.3 if at < 1180 else 0.9, abs=1e-5)
    assert clock.all_shown


def test_the_first_sample_is_waited_for_and_the_end_waits_for_the_last() -> None:
    clock = PoseClock(period_ns=PERIOD, starvation=None)
    clock.sample(request(0.5), captured_ns=700 * MS, now_ns=0)
    assert clock.wait_ns(100 * MS) == 600 * MS
    assert clock.tick(100 * MS) is None
    assert not clock.all_shown
    assert clock.wait_ns(700 * MS) == 0
    made = clock.tick(700 * MS)
    assert made is not None
    assert made.captured_ns == 700 * MS
    assert clock.all_shown
    clock.sample(request(0.5), captured_ns=900 * MS, now_ns=700 * MS)
    clock.reset()
    assert clock.all_shown
    assert clock.wait_ns(900 * MS) is None


def test_samples_of_the_future_are_bounded_and_the_next_ones_kept() -> None:
    clock = PoseClock(period_ns=PERIOD, starvation=None)
    for k in range(3000):
        clock.sample(request(k / 3000), captured_ns=round(k * MS / 3), now_ns=-1)
    assert len(clock._ahead) == 1024
    made = clock.tick(300 * MS)
    assert made is not None
    assert angle_of(made.pose) == pytest.approx(0.3, abs=1e-3)


# ---- through a session ------------------------------------------------------------------------


@pytest.mark.parametrize("on_late", ["freshest", "paced"])
def test_a_session_shows_the_last_sample_and_ends(
    open_session: Callable[..., Session], camera: Camera, on_late: str
) -> None:
    session = open_session([ToyStage()], on_late=on_late, resample=True, fps=200)
    for value in (3, 3, 7):
        assert session.push(Pose(np.zeros((24, 3)), np.array([value, 0, 0])), camera)
    session.finish()
    frames = list(session)
    assert int(frames[-1].rgb[0, 0, 0]) == 7
    with pytest.raises(SessionError, match="finish"):
        session.push(Pose.rest(), camera)
    stats = session.stats()
    assert stats.accepted == stats.delivered + stats.dropped


def test_a_session_goes_on_while_no_poses_come_and_leaves_no_thread(
    open_session: Callable[..., Session], camera: Camera
) -> None:
    session = open_session([ToyStage()], resample=True, starvation=Starvation(), fps=500)
    assert session.wait(timeout_s=0) is None  # nothing before the first pose
    session.push(Pose.rest(), camera)
    indices = [session.wait(timeout_s=PATIENCE_S) for _ in range(20)]
    assert all(frame is not None for frame in indices)
    session.reset()
    assert session.stats().in_flight == 0
    session.push(Pose.rest(), camera)
    assert session.wait(timeout_s=PATIENCE_S) is not None
    session.close()
    assert "gas-rt-ticks" not in {thread.name for thread in threading.enumerate()}


def test_what_goes_wrong_while_resampling_ends_the_session_with_one_error(
    open_session: Callable[..., Session], camera: Camera, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: PoseClock, now_ns: int) -> Request:
        raise ValueError("toy trouble")

    monkeypatch.setattr(PoseClock, "tick", broken)
    session = open_session([ToyStage()], resample=True)
    session.push(Pose.rest(), camera)
    with pytest.raises(SessionError, match="resampling failed: ValueError: toy trouble"):
        session.wait(timeout_s=PATIENCE_S)
    with pytest.raises(SessionError, match="toy trouble"):
        session.push(Pose.rest(), camera)


def test_a_conductor_stops_when_what_it_feeds_has_ended() -> None:
    def closed(request: Request) -> None:
        raise SessionError("closed")

    told: list[str] = []
    conductor = Conductor(
        PoseClock(period_ns=PERIOD, starvation=None),
        offer=closed,
        finish=lambda: told.append("finish"),
        fail=lambda what, error: told.append(what),
        clock=VirtualClock(),
    )
    conductor.sample(request(0))
    conductor._thread.join(PATIENCE_S)
    conductor.close()
    assert told == []
