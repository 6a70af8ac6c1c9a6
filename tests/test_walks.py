"""Walks: the body locked to its place, and the camera that follows."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gas_rt import FollowCamera, InputError, Pose, ShapeError, root_locked
from gas_rt.cameras import framing_camera
from gas_rt.core import Camera

TICK_NS = 40_000_000


def camera() -> Camera:
    box = np.array([[-0.4, 0, -0.2], [0.4, 1.8, 0.2]], np.float32)
    return framing_camera(box, side_px=128, azimuth_deg=30)


def place(made: Camera, root: np.ndarray) -> np.ndarray:
    """Where a root is seen, in pixels."""
    seen = made.rotation @ np.asarray(root, np.float32) + made.translation
    return (made.intrinsics @ seen)[:2] / seen[2]


def offset(made: Camera) -> np.ndarray:
    """How far the camera was carried, in metres."""
    eye = -made.rotation.T @ made.translation
    return eye + camera().rotation.T @ camera().translation


def test_a_locked_root_stays_over_the_origin_and_still_jumps() -> None:
    rotations = np.random.default_rng(1).normal(size=(24, 3)).astype(np.float32)
    pose = Pose(rotations, np.array([3, 0.4, -2], np.float32))
    assert root_locked(pose).translation.tolist() == pytest.approx([0, 0.4, 0])
    assert root_locked(pose, vertical=True).translation.tolist() == [0, 0, 0]
    np.testing.assert_array_equal(root_locked(pose).rotations, rotations)


def test_a_body_that_stands_leaves_the_camera_alone() -> None:
    root = np.array([0.3, 0.1, -1], np.float32)
    follow = FollowCamera(camera(), root)
    for tick in range(5):
        made = follow.at(root, tick * TICK_NS)
        np.testing.assert_allclose(made.translation, camera().translation, atol=1e-6)
        np.testing.assert_array_equal(made.rotation, camera().rotation)


@pytest.mark.parametrize("speed_mps", [0.5, 1.4, 5.0])
@pytest.mark.parametrize("tick_ns", [8_000_000, 40_000_000, 100_000_000])
def test_who_walks_at_one_speed_stays_where_they_were_in_the_picture(
    speed_mps: float, tick_ns: int
) -> None:
    follow = FollowCamera(camera(), np.zeros(3))
    speed = np.array([0.6, 0.0, 0.8]) * speed_mps / 1e9
    behind = []
    for tick in range(round(4e9 / tick_ns)):
        root = speed * tick * tick_ns
        made = follow.at(root, tick * tick_ns)
        behind.append(float(np.linalg.norm(root - offset(made))))
    assert behind[-1] < 1e-3  # metres
    # A step of the speed v is behind by v·t·exp(−t/τ) at most, which is v·τ/e.
    assert max(behind) < 1.15 * speed_mps * 0.25 / math.e
    np.testing.assert_allclose(place(made, root), place(camera(), np.zeros(3)), atol=0.1)


def test_a_trackers_noise_does_not_shake_the_picture() -> None:
    rng = np.random.default_rng(3)
    follow, noise = FollowCamera(camera(), np.zeros(3)), []
    given_noise = rng.normal(scale=0.02, size=(500, 3))
    for tick, shake in enumerate(given_noise):
        noise.append(offset(follow.at(shake, tick * TICK_NS)))
    moved = np.diff(np.array(noise)[100:], axis=0)[:, [0, 2]].std()
    assert moved < 0.35 * np.diff(given_noise, axis=0).std()


def test_it_does_not_follow_a_jump_unless_told_to() -> None:
    up = np.array([0, 0.5, 0])
    for vertical, expected in ((False, 0.0), (True, 0.5)):
        follow = FollowCamera(camera(), np.zeros(3), vertical=vertical)
        for tick in range(100):
            made = follow.at(up, tick * TICK_NS)
        assert offset(made)[1] == pytest.approx(expected, abs=1e-3)


def test_a_leap_and_a_pause_are_cuts() -> None:
    follow = FollowCamera(camera(), np.zeros(3))
    for tick in range(10):
        follow.at(np.array([0.05 * tick, 0, 0]), tick * TICK_NS)
    made = follow.at(np.array([7, 0, 7.0]), 10 * TICK_NS)
    np.testing.assert_allclose(offset(made), [7, 0, 7], atol=1e-4)
    made = follow.at(np.array([7.4, 0, 7.0]), 10 * TICK_NS + 2_000_000_000)
    np.testing.assert_allclose(offset(made), [7.4, 0, 7], atol=1e-4)
    follow.reset()
    made = follow.at(np.array([7.5, 0, 7.0]), 0)
    np.testing.assert_allclose(offset(made), [7.5, 0, 7], atol=1e-4)


def test_a_clock_that_goes_back_or_stands_still_moves_nothing_and_blocks_nothing() -> None:
    follow = FollowCamera(camera(), np.zeros(3))
    follow.at(np.zeros(3), 10 * TICK_NS)
    before = offset(follow.at(np.array([0.1, 0, 0]), 11 * TICK_NS))
    for now in (11 * TICK_NS, -(10**15)):
        np.testing.assert_array_equal(offset(follow.at(np.array([0.3, 0, 0]), now)), before)
    for tick in range(100):
        made = follow.at(np.array([0.3, 0, 0]), -(10**15) + tick * TICK_NS)
    np.testing.assert_allclose(offset(made), [0.3, 0, 0], atol=1e-4)


@given(
    st.lists(
        st.tuples(st.integers(-(10**8), 2 * 10**9), st.floats(-3, 3), st.floats(-3, 3)),
        min_size=1,
        max_size=40,
    )
)
def test_it_stays_near_the_body_whatever_comes(steps: list[tuple[int, float, float]]) -> None:
    follow, now, far = FollowCamera(camera(), np.zeros(3)), 0, 0.0
    for passed, x, z in steps:
        now += passed
        made = follow.at(np.array([x, 0, z]), now)
        assert np.isfinite(made.translation).all()
        far = max(far, abs(x), abs(z))
        assert np.abs(offset(made)).max() <= far + 3


def test_bad_roots_and_times_are_named() -> None:
    with pytest.raises(InputError, match="settle_s: expected a time above 0, got 0"):
        FollowCamera(camera(), np.zeros(3), settle_s=0)
    with pytest.raises(ShapeError, match="root_m: 1 of 3 values are NaN"):
        FollowCamera(camera(), np.zeros(3)).at(np.array([0, np.nan, 0]), 0)
    with pytest.raises(ShapeError, match=r"root_m: expected shape \[3\]"):
        FollowCamera(camera(), np.zeros(2))
