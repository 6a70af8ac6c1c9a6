"""AMASS in all its spellings, and resampling."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.transform import Rotation, Slerp

from gas_rt.body import Motion, procedural_motion
from gas_rt.body.motion import REST_PELVIS
from gas_rt.core import Pose
from gas_rt.errors import FileError, InputError, ShapeError


def write(path: Path, **data: Any) -> Path:
    np.savez(path, **data)
    return path


def some_poses(width: int, frames: int = 5) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.5, (frames, width))


@settings(max_examples=25)
@given(
    arrays(np.float32, (3, 24, 3), elements=st.floats(-3, 3, width=32)),
    arrays(np.float32, (3, 3), elements=st.floats(-50, 50, width=32)),
    st.floats(1, 240),
)
def test_round_trip(rotations: np.ndarray, translations: np.ndarray, fps: float) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.npz"
        Motion(rotations, translations, fps).save(path)
        back = Motion.load(path)
    np.testing.assert_array_equal(back.rotations, rotations)
    np.testing.assert_array_equal(back.translations, translations)
    assert back.fps == fps


@pytest.mark.parametrize("width", [66, 72, 156, 165])
def test_every_width(tmp_path: Path, width: int) -> None:
    poses = some_poses(width)
    motion = Motion.load(write(tmp_path / "m.npz", poses=poses, mocap_framerate=120.0), up="y")
    assert motion.rotations.shape == (5, 24, 3)
    np.testing.assert_allclose(
        motion.rotations[:, :22].reshape(5, 66), poses[:, :66], rtol=1e-6, atol=1e-7
    )
    hands = poses[:, 66:72].reshape(5, 2, 3) if width == 72 else np.zeros((5, 2, 3))
    np.testing.assert_allclose(motion.rotations[:, 22:], hands, rtol=1e-6, atol=1e-7)
    assert not motion.translations.any(), "trans is optional"


@pytest.mark.parametrize("key", ["mocap_framerate", "mocap_frame_rate", "fps"])
def test_every_frame_rate_spelling(tmp_path: Path, key: str) -> None:
    path = write(tmp_path / "m.npz", poses=some_poses(72), **{key: np.array(60)})
    assert Motion.load(path).fps == 60
    assert Motion.load(path, fps=30).fps == 30


def test_separate_root_and_body(tmp_path: Path) -> None:
    root, body = some_poses(3), some_poses(63)
    path = write(tmp_path / "m.npz", root_orient=root, pose_body=body, fps=30)
    np.testing.assert_allclose(Motion.load(path).rotations[:, 0], root, rtol=1e-6)


def test_amass_is_z_up_unless_it_says_otherwise(tmp_path: Path) -> None:
    poses, trans = np.zeros((2, 156)), np.array([[1.0, 2, 3], [1, 2, 3]])
    path = write(tmp_path / "m.npz", poses=poses, trans=trans, mocap_framerate=120)
    motion = Motion.load(path)
    pelvis = np.array(REST_PELVIS)
    was = trans[0] + pelvis
    turned = Rotation.from_rotvec([-np.pi / 2, 0, 0])
    np.testing.assert_allclose(motion.translations[0] + pelvis, turned.apply(was), atol=1e-6)
    np.testing.assert_allclose(motion.rotations[0, 0], [-np.pi / 2, 0, 0], atol=1e-6)
    np.testing.assert_array_equal(Motion.load(path, up="y").translations, trans)
    path = write(tmp_path / "y.npz", poses=poses, trans=trans, fps=30, up_axis="y")
    np.testing.assert_array_equal(Motion.load(path).translations, trans)
    path = write(tmp_path / "p.npz", poses=np.zeros((2, 72)), trans=trans, fps=30)
    np.testing.assert_array_equal(Motion.load(path).translations, trans)


def test_what_a_motion_does_not_need_is_left_alone(tmp_path: Path) -> None:
    """AMASS's SMPL-X release holds a pickled dictionary of its markers."""
    odd = {"markers_latent_vids": np.array({"a": 1}, object), "markers": np.full((2, 3), np.nan)}
    path = write(tmp_path / "m.npz", poses=some_poses(165), mocap_frame_rate=30.0, **odd)
    assert Motion.load(path).fps == 30


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({}, "poses: missing, found"),
        ({"poses": np.zeros((3, 100))}, "100 values per frame; expected 72"),
        ({"poses": np.zeros(72)}, "poses.*shape"),
        ({"poses": np.zeros((0, 72))}, "empty"),
        ({"poses": np.full((2, 72), np.nan)}, "poses.*NaN"),
        ({"poses": np.full((2, 72), "x")}, "poses.*numbers"),
        ({"poses": np.zeros((2, 72)), "trans": np.zeros((3, 3))}, "trans.*shape"),
        ({"poses": np.zeros((2, 72)), "trans": np.full((2, 3), np.inf)}, "trans.*NaN"),
        ({"poses": np.zeros((2, 72)), "fps": 0}, "fps: expected"),
        ({"poses": np.zeros((2, 72)), "fps": np.nan}, "fps: expected"),
        ({"poses": np.zeros((2, 72)), "fps": "30"}, "fps: expected one number"),
        ({"poses": np.zeros((2, 72)), "up_axis": "x"}, "up_axis"),
        ({"root_orient": np.zeros((2, 3)), "pose_body": np.zeros((3, 63))}, "pose_body.*shape"),
    ],
)
def test_malformed_motion(tmp_path: Path, data: dict[str, Any], message: str) -> None:
    rate = {} if "fps" in data else {"mocap_framerate": 30.0}
    path = write(tmp_path / "m.npz", **(rate | data))
    with pytest.raises(FileError, match=message):
        Motion.load(path)


def test_no_frame_rate(tmp_path: Path) -> None:
    path = write(tmp_path / "m.npz", poses=some_poses(72))
    with pytest.raises(FileError, match="frame rate is missing"):
        Motion.load(path)
    assert Motion.load(path, fps=24).fps == 24


def test_pickled_motion_is_never_loaded(tmp_path: Path) -> None:
    path = write(tmp_path / "m.npz", poses=np.array([{"a": 1}], dtype=object))
    with pytest.raises(FileError, match="without objects"):
        Motion.load(path)


@pytest.mark.parametrize("fps", [10.0, 25.0, 60.0, 7.5])
def test_resampling_is_scipys_slerp(fps: float) -> None:
    motion = procedural_motion("dance", 20, fps=25)
    out = motion.resampled(fps)
    times = np.arange(len(out)) / fps
    assert times[-1] <= 19 / 25 + 1e-9
    assert 19 / 25 - times[-1] < 1 / fps
    source = np.arange(20) / 25
    for joint in (0, 1, 18):
        expected = Slerp(source, Rotation.from_rotvec(motion.rotations[:, joint]))(times)
        gap = (expected * Rotation.from_rotvec(out.rotations[:, joint]).inv()).magnitude()
        assert gap.max() < 1e-5
    for axis in range(3):
        np.testing.assert_allclose(
            out.translations[:, axis],
            np.interp(times, source, motion.translations[:, axis]),
            atol=1e-6,
        )


def test_resampling_to_the_same_rate_changes_nothing() -> None:
    motion = procedural_motion("walk", 10)
    np.testing.assert_allclose(motion.resampled(25).translations, motion.translations, atol=1e-7)


def test_one_frame() -> None:
    motion = Motion(np.zeros((1, 24, 3)), np.zeros((1, 3)), 25)
    assert len(motion.resampled(60)) == 1
    assert [p.rotations.shape for p in motion] == [(24, 3)]
    assert isinstance(motion.pose(0), Pose)
    assert motion.duration_s == pytest.approx(0.04)


@pytest.mark.parametrize("fps", [0, -1, np.nan, 1e9])
def test_bad_rate(fps: float) -> None:
    motion = Motion(np.zeros((2, 24, 3)), np.zeros((2, 3)), 25)
    with pytest.raises(InputError, match="fps"):
        motion.resampled(fps)
    with pytest.raises(ShapeError, match="fps"):
        Motion(np.zeros((2, 24, 3)), np.zeros((2, 3)), fps)


def test_empty_motion() -> None:
    with pytest.raises(ShapeError, match="expected 1"):
        Motion(np.zeros((0, 24, 3)), np.zeros((0, 3)), 25)
