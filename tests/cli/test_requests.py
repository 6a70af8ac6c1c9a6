"""The camera of a motion: in the face at first, in the frame to the last."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import numpy as np
import pytest

from gas_rt import Avatar, Model, Pose
from gas_rt.cli.requests import (
    CAMERA_MODES,
    CameraMode,
    find_motion,
    heading_deg,
    orbit_requests,
    walked,
)
from gas_rt.engine import open_bundle
from gas_rt.errors import FileError
from tests.toy_bundle import manifest_of, rewrite
from tests.toy_person import toy_motion


def turned(degrees: float, x: float = 0.0) -> Pose:
    rotations = np.zeros((24, 3), np.float32)
    rotations[0, 1] = math.radians(degrees)
    return Pose(rotations, np.array([x, 0.1 * x, 2 * x], np.float32))


@pytest.mark.parametrize("degrees", [0, 30, 90, -135])
def test_heading(degrees: float) -> None:
    assert heading_deg(turned(degrees)) == pytest.approx(degrees, abs=1e-3)


@pytest.mark.parametrize("how", CAMERA_MODES)
def test_everybody_stays_in_the_frame(toy_model: Model, avatar: Avatar, how: CameraMode) -> None:
    performer = toy_model.performer(avatar)
    poses = [turned(100 + 10 * k, x=k * 0.025) for k in range(40)]  # 1.4 m/s, and rising
    requests = walked(performer, poses, 128, camera=how)
    for request in requests:
        camera = request.camera
        vertices = performer.pose(request.pose).body.vertices
        seen = vertices @ camera.rotation.T + camera.translation
        pixels = (seen @ camera.intrinsics.T)[:, :2] / seen[:, 2:]
        assert pixels.min() > 0
        assert pixels.max() < 128
    eye = -requests[0].camera.rotation.T @ requests[0].camera.translation
    centre = performer.pose(requests[0].pose).body.vertices.mean(0) if how != "fixed" else eye
    way = eye - centre
    assert how == "fixed" or abs(math.degrees(math.atan2(way[0], way[2])) - 100) < 5
    moved = np.ptp([r.camera.translation for r in requests], axis=0).max()
    assert (moved > 0.5) == (how == "follow")
    gone = np.ptp([r.pose.translation for r in requests], axis=0)
    assert (gone[[0, 2]].max() > 0.5) == (how != "locked")
    assert gone[1] == pytest.approx(0.1 * 39 * 0.025, abs=1e-5)  # it rises in every mode


def test_a_walk_looks_the_same_locked_or_followed_exactly(toy_model: Model, avatar: Avatar) -> None:
    """What the follow camera's smoothing changes is all that differs."""
    performer = toy_model.performer(avatar)
    poses = [turned(0, x=k * 0.02) for k in range(200)]
    by = {how: walked(performer, poses, 64, camera=how) for how in CAMERA_MODES}
    last = {how: performer.picture(r[-1].pose, r[-1].camera).rgb for how, r in by.items()}
    difference = np.abs(last["locked"].astype(int) - last["follow"].astype(int))
    assert difference.mean() < 0.5
    assert np.abs(last["locked"].astype(int) - last["fixed"].astype(int)).mean() > 2


def test_an_orbit_begins_at_the_photo(toy_model: Model, avatar: Avatar) -> None:
    requests = orbit_requests(toy_model.performer(avatar), 64, 4)
    np.testing.assert_allclose(requests[0].camera.rotation, avatar.camera.rotation, atol=1e-6)
    np.testing.assert_allclose(requests[0].camera.translation, avatar.camera.translation, atol=1e-5)
    assert {request.task for request in requests} == {"view"}


def test_a_motion_by_path_or_by_name(toy_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(toy_folder, tmp_path / "toy")
    (folder / "motions").mkdir()
    toy_motion(3).save(folder / "motions" / "wave.npz")
    rewrite(folder, manifest_of(folder))
    bundle = open_bundle(folder)
    assert find_motion(bundle, "wave") == folder / "motions" / "wave.npz"
    assert find_motion(bundle, str(folder / "body.npz")) == folder / "body.npz"
    with pytest.raises(FileError, match=r"walk: no such motion; .*shipped motions: wave"):
        find_motion(bundle, "walk")
