"""Motions made from a seed: they loop, repeat, move, and keep their feet on the floor."""

from __future__ import annotations

import numpy as np
import pytest

from gas_rt.body import MOTION_NAMES, BodyModel, Motion, joint_index, procedural_motion
from gas_rt.body.limbs import ANKLE_HEIGHT
from gas_rt.errors import InputError

FRAMES = 50


def joints(body: BodyModel, motion: Motion) -> np.ndarray:
    shaped = body.shape([])
    return np.stack([body.pose(shaped, pose).joints for pose in motion])


@pytest.mark.parametrize("name", MOTION_NAMES)
def test_same_seed_same_motion(name: str) -> None:
    one, two = procedural_motion(name, FRAMES, seed=3), procedural_motion(name, FRAMES, seed=3)
    other = procedural_motion(name, FRAMES, seed=4)
    np.testing.assert_array_equal(one.rotations, two.rotations)
    assert np.abs(one.rotations - other.rotations).max() > 0.02


@pytest.mark.parametrize("name", MOTION_NAMES)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_it_loops_smoothly_and_feet_stay_on_the_floor(
    bundled: BodyModel, name: str, seed: int
) -> None:
    path = joints(bundled, procedural_motion(name, FRAMES, seed=seed))
    steps = np.linalg.norm(np.diff(path, axis=0, append=path[:1]), axis=-1).max(1)
    assert steps[-1] <= steps.max() * 1.05 + 1e-3, "a jump where the loop closes"
    assert steps.max() < 0.35, "nothing moves faster than 9 m/s"
    assert steps.max() > 0.002, "it moves"
    ankles = path[:, [joint_index("left_ankle"), joint_index("right_ankle")]]
    assert ankles[..., 1].min() > ANKLE_HEIGHT - 0.012, "no foot goes through the floor"
    lowest = ankles[..., 1].min(1)
    assert np.median(lowest) < ANKLE_HEIGHT + (0.15 if name == "run" else 0.03)
    assert np.abs(path[:, 0, [0, 2]]).max() < 0.3, "it stays on the spot"


def test_planted_feet_move_with_the_treadmill(bundled: BodyModel) -> None:
    path = joints(bundled, procedural_motion("walk", FRAMES, seed=0))
    toe = path[:, joint_index("left_foot")]
    planted = toe[:, 1] < toe[:, 1].min() + 0.004
    speed = np.diff(toe[:, 2])[planted[:-1] & planted[1:]]
    assert len(speed) > 5
    assert speed.max() < 0
    assert np.std(speed) < 0.25 * abs(speed.mean())


def test_squatting_feet_stand_still(bundled: BodyModel) -> None:
    path = joints(bundled, procedural_motion("squat", FRAMES, seed=1))
    assert np.ptp(path[:, joint_index("left_foot")], axis=0).max() < 0.003
    assert np.ptp(path[:, 0, 1]) > 0.25


def test_turning_goes_once_around(bundled: BodyModel) -> None:
    motion = procedural_motion("turn", FRAMES, seed=0)
    path = joints(bundled, motion)
    across = path[:, joint_index("left_hip")] - path[:, joint_index("right_hip")]
    heading = np.unwrap(np.arctan2(across[:, 2], across[:, 0]))
    assert abs(heading[-1] - heading[0]) == pytest.approx(2 * np.pi * 49 / 50, abs=0.1)


@pytest.mark.parametrize("name", MOTION_NAMES)
def test_unlooped_clips_keep_their_tempo(bundled: BodyModel, name: str) -> None:
    short = joints(bundled, procedural_motion(name, 10, seed=2, loop=False))
    long = joints(bundled, procedural_motion(name, 40, seed=2, loop=False))
    np.testing.assert_allclose(short, long[:10], atol=1e-5)
    assert np.linalg.norm(np.diff(short, axis=0), axis=-1).max() < 0.35


@pytest.mark.parametrize("frames", [1, 2, 7])
def test_short_clips(frames: int) -> None:
    for name in MOTION_NAMES:
        assert len(procedural_motion(name, frames)) == frames


@pytest.mark.parametrize(
    ("name", "frames", "fps"), [("fly", 10, 25), ("walk", 0, 25), ("walk", 10, 0)]
)
def test_what_it_cannot_make(name: str, frames: int, fps: float) -> None:
    with pytest.raises(InputError, match="motion"):
        procedural_motion(name, frames, fps=fps)
